"""The layer of multi-token prediction from quantizing to the files that guess: kept, read back, used by llama.cpp."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from tokenizers import Tokenizer

from infra.errors import UserError
from infra.json_objects import read_object
from model.architecture.checkpoint import load_model, save_model
from model.architecture.config import Family, ModelConfig
from model.evaluation.evaluate import evaluate
from model.evaluation.sections import EvaluateConfig
from model.release.export import export
from model.release.footprint import model_files
from model.release.gguf import draft_units, undraftable, write_gguf
from model.release.quantize import quantize
from model.release.quantized import load_quantized, plain_unit
from model.release.units import units
from model.release.verify import Llama, check_drafts
from model.sections import ExportConfig, QuantizeConfig
from pipeline.tokens.chat import read_tokenizer
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_config, tiny_model

CONFIG = QuantizeConfig(calibration_sequences=4, evaluation_sequences=2, accuracy_problems=0, expert_tokens=0)
LAYER = "model.layers.3."


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """From a model with the layer, and a student, to its export."""
    made = shared_artifacts()
    for name in ("model", "student", "evaluate", "quantize", "export"):
        made[name] = tmp_path_factory.mktemp(name)
    size = Tokenizer.from_file(str(made["tokenizer"] / "tokenizer.json")).get_vocab_size()
    widths = {"kv_lora_rank": 32, "moe_intermediate_size": 32, "v_head_dim": 16, "q_lora_rank": 32}
    model = tiny_model(vocab_size=size, num_nextn_predict_layers=1, **widths)
    save_model(model, made["model"] / "model", made["tokenizer"])
    save_model(tiny_model(Family.LLAMA, vocab_size=size), made["student"] / "model", made["tokenizer"])
    inputs = {name: made[name] for name in ("reasoning", "tokenizer", "shards")} | {"sft": made["model"]}
    evaluate(EvaluateConfig(problems=2, max_new_tokens=2, sequences=1), inputs, made["evaluate"])
    quantize(CONFIG, made, made["quantize"])
    export(ExportConfig(title="Tiny", q4_k_m=False), made, made["export"])
    return made


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_layer_is_kept_beside_the_model(precision: str, artifacts: dict[str, Path]) -> None:
    folder = artifacts["quantize"] / precision
    plain, whole = load_quantized(folder), load_quantized(folder, prediction=True)
    tokens_BT = torch.randint(97, (1, 9), generator=torch.Generator().manual_seed(1))
    assert plain.config.num_nextn_predict_layers == 0
    with torch.no_grad():
        torch.testing.assert_close(whole(tokens_BT), plain(tokens_BT), atol=0, rtol=0)
    wanted = load_model(artifacts["model"] / "model", prediction=True).state_dict()
    for name, weight in whole.state_dict().items():
        if name.startswith(LAYER):
            error = (weight - wanted[name]).norm() / wanted[name].norm()
            assert error < (0.01 if precision == "int8" else 0.15), name
    (folder / "prediction.safetensors").rename(folder / "gone")
    with pytest.raises(UserError, match=r"prediction\.safetensors: not readable"):
        load_quantized(folder, prediction=True)
    (folder / "gone").rename(folder / "prediction.safetensors")


def test_sizes_are_those_of_the_model_without_it(artifacts: dict[str, Path]) -> None:
    found = read_object(artifacts["quantize"] / "quantization.json")["precisions"]
    assert found["f32"]["bits_per_weight"] == pytest.approx(32, rel=0.05)


def test_the_export_has_it_in_every_layout(artifacts: dict[str, Path]) -> None:
    out = artifacts["export"]
    assert load_model(out / "hf", prediction=True).config.num_nextn_predict_layers == 1
    assert load_quantized(out / "model", prediction=True).config.num_nextn_predict_layers == 1
    assert read_object(out / "compressed" / "config.json")["num_nextn_predict_layers"] == 0
    for kind in ("f32", "q8_0", "q4_0"):
        assert not any(".nextn." in tensor.name for tensor in GGUFReader(out / "gguf" / f"model-{kind}.gguf").tensors)
    drafter = GGUFReader(out / "gguf" / "model-mtp-q8_0.gguf")
    assert drafter.fields["deepseek2.nextn_predict_layers"].contents() == 1
    assert drafter.fields["deepseek2.block_count"].contents() == 4
    assert {tensor.name.split(".")[0] for tensor in drafter.tensors} == {"token_embd", "output_norm", "output", "blk"}
    assert {tensor.name.split(".")[1] for tensor in drafter.tensors if tensor.name.startswith("blk")} == {"3"}
    assert "drafts" not in read_object(out / "export.json")["left_out"]


def test_the_export_has_the_student_that_guesses(artifacts: dict[str, Path]) -> None:
    gguf = artifacts["export"] / "gguf"
    path = gguf / "model-draft-q8_0.gguf"
    student = load_model(artifacts["student"] / "model")
    again = load_model(path)
    assert again.config.model_type is Family.LLAMA
    for name, weight in student.state_dict().items():
        assert (again.state_dict()[name] - weight).norm() < 0.01 * weight.norm(), name
    prompt = torch.randint(7, again.config.vocab_size, (12,), generator=torch.Generator().manual_seed(3)).tolist()
    found = Llama(gguf / "model-q8_0.gguf", context=96, drafts=2, drafter=path).written(prompt, 40)
    assert found.tokens == Llama(gguf / "model-q8_0.gguf", context=96).written(prompt, 40).tokens
    assert found.timings["draft_n"] > 0
    assert [file.name for file in model_files(gguf)] == [f"model-{kind}.gguf" for kind in ("f32", "q4_0", "q8_0")]
    assert "gguf/model-draft-q8_0.gguf" in (artifacts["export"] / "MODEL_CARD.md").read_text()


def test_a_student_of_other_tokens_is_left_out_with_the_reason(artifacts: dict[str, Path], tmp_path: Path) -> None:
    trimmed = QuantizeConfig(**CONFIG.model_dump() | {"min_token_count": 1})
    quantize(trimmed, artifacts, tmp_path / "quantize")
    export(ExportConfig(q4_k_m=False), artifacts | {"quantize": tmp_path / "quantize"}, tmp_path / "export")
    assert not (tmp_path / "export" / "gguf" / "model-draft-q8_0.gguf").exists()
    assert "min_token_count" in read_object(tmp_path / "export" / "export.json")["left_out"]["draft model"]


def test_llama_cpp_guesses_with_it_as_we_do(artifacts: dict[str, Path]) -> None:
    """Of a model that repeats itself every guess can be told beforehand; what llama.cpp guessed right, we guess too."""
    gguf = artifacts["export"] / "gguf"
    model = load_quantized(artifacts["quantize"] / "int8", prediction=True)
    prompt = torch.randint(7, model.config.vocab_size, (12,), generator=torch.Generator().manual_seed(3)).tolist()
    llama = Llama(gguf / "model-q8_0.gguf", context=96, drafts=1, drafter=gguf / "model-mtp-q8_0.gguf")
    found = llama.written(prompt, 40)
    assert found.tokens == Llama(gguf / "model-q8_0.gguf", context=96).written(prompt, 40).tokens
    assert found.timings["draft_n"] > 0
    row = [*prompt, *found.tokens]
    with torch.no_grad():
        _, told_BTV = model(torch.tensor([row]), mtp=True)
    right = sum(int(told_BTV[0, place].argmax()) == row[place + 2] for place in range(len(prompt) - 1, len(row) - 2))
    assert abs(found.timings["draft_n_accepted"] - right) <= 2  # those behind a right one are not guessed anew


def test_a_file_with_the_layer_among_its_blocks_is_read_back(artifacts: dict[str, Path], tmp_path: Path) -> None:
    model = load_model(artifacts["model"] / "model", prediction=True)
    path = tmp_path / "whole-f32.gguf"
    stored = {name: plain_unit(weight, None) for name, weight in units(model).items()}
    write_gguf(path, model.config, stored, artifacts["tokenizer"], name="whole")
    again = load_model(path, prediction=True)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, atol=0, rtol=0)
    assert load_model(path).config.num_nextn_predict_layers == 0


def test_a_file_that_guesses_nothing_is_noticed(artifacts: dict[str, Path]) -> None:
    gguf = artifacts["export"] / "gguf"
    model, words = load_model(artifacts["model"] / "model"), read_tokenizer(artifacts["tokenizer"])
    check_drafts(gguf / "model-q8_0.gguf", gguf / "model-mtp-q8_0.gguf", model, words)
    with pytest.raises(UserError, match="guesses nothing"):
        check_drafts(gguf / "model-q8_0.gguf", None, model, words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"q_lora_rank": 12, "num_nextn_predict_layers": 1}, None),
        ({"q_lora_rank": 12}, "no layer of multi-token prediction"),
        ({"q_lora_rank": 12, "num_nextn_predict_layers": 2}, "one layer"),
        ({"num_nextn_predict_layers": 1}, "set model.q_lora_rank"),
        ({"q_lora_rank": 12, "num_nextn_predict_layers": 1, "first_k_dense_replace": 9}, "wants experts"),
    ],
    ids=str,
)
def test_what_llama_cpp_cannot_guess_with_is_known(changes: dict[str, object], reason: str | None) -> None:
    config: ModelConfig = tiny_config(Family.DEEPSEEK_V3, **changes)
    found = undraftable(config)
    assert (found is None) if reason is None else (found is not None and reason in found)
    model = tiny_model(Family.DEEPSEEK_V3, **changes)
    assert any(name.startswith(LAYER) for name in draft_units(config, units(model))) is bool(config.prediction_layers)
