"""Quantize and export on a tiny model: judged against plain arithmetic, read back by the engines that will run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from infra.errors import UserError
from model.architecture.checkpoint import load_config, load_model, save_model
from model.architecture.config import Family
from model.evaluation.evaluate import evaluate
from model.evaluation.sections import EvaluateConfig
from model.facts.release import ExportMetrics
from model.release.export import export
from model.release.quantize import quantize
from model.release.quantized import load_quantized, read_units
from model.release.rows import text_rows
from model.sections import Activations, ExportConfig, Precision, QuantizeConfig
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_model
from tests.pipeline.corpus import published

CONFIG = QuantizeConfig(
    linear=Precision.Q4_0,
    calibration_sequences=12,
    evaluation_sequences=4,
    expert_tokens=8,
    accuracy_problems=2,
    max_new_tokens=4,
)  # 4 bits throughout: an untrained model hides what less would do
HOSTILE = ["1234567 + 89", "naïve 漢字 🦙\u200b", "  two  spaces\n\n\ttab", "<|user|> <think>", "a" * 300, "don't I'LL"]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = shared_artifacts()
    for name in ("evaluate", "quantize", "export"):
        made[name] = tmp_path_factory.mktemp(name)
    evaluate(EvaluateConfig(problems=4, max_new_tokens=4, sequences=2), made, made["evaluate"])
    made["model"] = made["grpo"]
    quantize(CONFIG, made, made["quantize"])
    found = export(ExportConfig(title="Tiny"), made, made["export"])
    made["metrics"] = tmp_path_factory.mktemp("metrics") / "export.json"
    made["metrics"].write_text(found.model_dump_json())
    return made


def test_quantize_twice_gives_the_same_bytes(artifacts: dict[str, Path], tmp_path: Path) -> None:
    quantize(CONFIG, artifacts, tmp_path)
    assert published(tmp_path) == published(artifacts["quantize"])


def test_calibration_beats_rounding_and_fewer_bits_cost_more(artifacts: dict[str, Path]) -> None:
    report = json.loads((artifacts["quantize"] / "quantization.json").read_text())["precisions"]
    assert report["int4"]["kl"] < report["int4"]["rounded_to_nearest"]["kl"]
    assert 0 <= report["int8"]["kl"] < report["int4"]["kl"]
    assert report["int4"]["bytes"] < report["int8"]["bytes"] < report["f32"]["bytes"]
    assert report["f32"]["kl"] == pytest.approx(0.0, abs=1e-9)


def test_starved_experts_are_listed(artifacts: dict[str, Path], tmp_path: Path) -> None:
    hungry = CONFIG.model_copy(update={"expert_tokens": 100_000})
    metrics = quantize(hungry, artifacts, tmp_path)
    report = json.loads((tmp_path / "quantization.json").read_text())["precisions"]["int4"]
    assert metrics.named("starved_experts_int4") == len(report["starved_experts"]) > 0
    assert load_quantized(tmp_path / "int4") is not None


def test_the_divergence_is_that_of_plain_arithmetic(artifacts: dict[str, Path]) -> None:
    rows = text_rows(artifacts["shards"], "validation", CONFIG.evaluation_sequences, 0)
    whole, four = load_model(artifacts["grpo"] / "model"), load_quantized(artifacts["quantize"] / "int4")
    total, count = 0.0, 0
    with torch.no_grad():
        p_BTV = whole.lm_head(whole.hidden(rows.tokens_BT, rows.documents_BT)).double().log_softmax(-1)
        q_BTV = four.lm_head(four.hidden(rows.tokens_BT, rows.documents_BT)).double().log_softmax(-1)
    for row in range(len(rows.tokens_BT)):
        for place in range(rows.tokens_BT.shape[1] - 1):
            if rows.documents_BT[row, place] == rows.documents_BT[row, place + 1]:
                p_V, q_V = p_BTV[row, place], q_BTV[row, place]
                total += (p_V.exp() * (p_V - q_V)).sum().item()
                count += 1
    report = json.loads((artifacts["quantize"] / "quantization.json").read_text())["precisions"]
    assert report["int4"]["kl"] == pytest.approx(total / count, rel=1e-3)


def test_a_damaged_quantized_model_is_refused(artifacts: dict[str, Path], tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((artifacts["quantize"] / "int4" / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=r"model\.safetensors: not readable"):
        read_units(tmp_path)


def test_transformers_computes_the_same(artifacts: dict[str, Path]) -> None:
    folder = artifacts["export"] / "hf"
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_model(artifacts["grpo"] / "model")
    words = AutoTokenizer.from_pretrained(folder)
    tokens_BT = torch.tensor([words("Calculate 12 + 34.")["input_ids"]])
    with torch.no_grad():
        wanted = theirs(tokens_BT).logits
        found = ours.lm_head(ours.hidden(tokens_BT))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    mine = Tokenizer.from_file(str(artifacts["tokenizer"] / "tokenizer.json"))
    for text in HOSTILE:
        ids = words(text, add_special_tokens=False)["input_ids"]
        assert ids == mine.encode(text, add_special_tokens=False).ids


def test_gguf_files_hold_the_calibrated_blocks_and_the_gate(artifacts: dict[str, Path]) -> None:
    reader = GGUFReader(artifacts["export"] / "gguf" / "model-q4_0.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    _, stored = read_units(artifacts["quantize"] / "int4")
    name = next(name for name in stored if name.endswith("mlp.experts.gate_proj.weight") or "experts.gate_proj" in name)
    layer = name.split(".")[2]
    packed = tensors[f"blk.{layer}.ffn_gate_exps.weight"]
    assert packed.data.tobytes() == stored[name].stored.numpy().tobytes()
    architecture = bytes(reader.fields["general.architecture"].parts[-1]).decode()
    assert f"{architecture}.expert_gating_func" in reader.fields
    assert f"{architecture}.expert_weights_scale" in reader.fields


def test_the_card_says_what_a_user_must_know(artifacts: dict[str, Path]) -> None:
    card = (artifacts["export"] / "MODEL_CARD.md").read_text()
    for word in ("Tiny", "int4", "accuracy", "GGUF", "VLLM_MLA_DISABLE=1 vllm serve compressed"):
        assert word.lower() in card.lower()
    summary = json.loads((artifacts["export"] / "export.json").read_text())
    assert all((artifacts["export"] / name).stat().st_size == size for name, size in summary["files"].items())


def test_an_expert_that_nobody_chooses_is_calibrated_all_the_same(artifacts: dict[str, Path], tmp_path: Path) -> None:
    """Starved on purpose: a selection bias keeps every token away from one expert."""
    model = load_model(artifacts["grpo"] / "model").requires_grad_(False)
    layer, expert = model.config.moe_layers[0], 3
    model.model.layers[layer].mlp.gate.e_score_correction_bias[expert] = -100.0
    save_model(model, tmp_path / "starved" / "model", artifacts["tokenizer"])
    (tmp_path / "out").mkdir()
    quantize(CONFIG, artifacts | {"model": tmp_path / "starved"}, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "quantization.json").read_text())["precisions"]["int4"]
    assert report["expert_tokens"][str(layer)][expert] == 0
    assert {"layer": layer, "expert": expert, "tokens": 0} in report["starved_experts"]
    assert report["uncalibrated_matrices"] == []  # its layer's tokens stand in
    weights = load_quantized(tmp_path / "out" / "int4").model.layers[layer].mlp.experts.down_proj[expert]
    original = model.model.layers[layer].mlp.experts.down_proj[expert]
    assert 0 < float((weights - original).norm() / original.norm()) < 0.2


def test_llama_cpp_has_checked_the_export(artifacts: dict[str, Path]) -> None:
    verified = json.loads((artifacts["export"] / "export.json").read_text())["verified"]["llama.cpp"]
    assert verified["log_probabilities_within"] == 5e-3
    assert verified["top1_equal"]
    assert verified["tokens_equal"]
    assert (artifacts["export"] / "compressed" / "model.safetensors").exists()


def test_a_budget_of_bits_goes_where_rounding_hurts_most(artifacts: dict[str, Path], tmp_path: Path) -> None:
    changes = {"bits": 6.0, "sensitivity_sequences": 4, "activations": Activations.INT8}
    quantize(CONFIG.model_copy(update=changes), artifacts, tmp_path)
    report = json.loads((tmp_path / "quantization.json").read_text())
    plain = json.loads((artifacts["quantize"] / "quantization.json").read_text())
    _, stored = read_units(tmp_path / "int4")
    cost, spent, raised = report["cost_at_4_bits"], 0.0, []
    weights = {name: unit.weight().numel() for name, unit in stored.items()}
    for name in cost:
        spent += weights[name] * {"q4_0": 4.5, "q8_0": 8.5}[stored[name].precision]
        raised += [name] if stored[name].precision == "q8_0" else []
    total = sum(weights[name] for name in cost)
    assert 5.0 < spent / total <= 6.0
    # nothing that was left would have fitted and was worth more
    worth = {name: cost[name] / weights[name] for name in cost}
    least = min(worth[name] for name in raised)
    assert all(worth[name] <= least or spent + 4 * weights[name] > 6.0 * total for name in cost if name not in raised)
    assert report["precisions"]["int4"]["kl"] < plain["precisions"]["int4"]["kl"]
    assert 0 < report["w8a8"]["kl"] < plain["precisions"]["int4"]["kl"]
    assert (tmp_path / "w8a8" / "model.safetensors").stat().st_size == report["w8a8"]["bytes"]


def test_the_report_goes_by_source_and_has_tasks_solved(artifacts: dict[str, Path]) -> None:
    report = json.loads((artifacts["quantize"] / "quantization.json").read_text())["precisions"]
    for found in report.values():
        assert set(found["kl_by_source"]) == {"book", "wiki"}
        assert 0 <= found["accuracy"] <= 1
    assert all(kl == pytest.approx(0, abs=1e-9) for kl in report["f32"]["kl_by_source"].values())


def test_memory_is_computed_on_the_card_and_measured_beside_it(artifacts: dict[str, Path]) -> None:
    memory = json.loads((artifacts["export"] / "export.json").read_text())["memory"]
    card = (artifacts["export"] / "MODEL_CARD.md").read_text()
    metrics = ExportMetrics.model_validate_json(artifacts["metrics"].read_bytes())
    for kind, found in memory.items():
        size = (artifacts["export"] / "gguf" / f"model-{kind}.gguf").stat().st_size
        assert size < found["short"] <= found["long_8_bits"] <= found["long"]
        peak, load = metrics.peak_bytes(kind), metrics.load_bytes(kind)
        assert peak is not None
        assert load is not None
        assert 0 < load <= peak
        assert f"| {kind} |" in card.partition("## On a device")[2]
    assert sorted(memory) == ["f32", "q4_0", "q4_k_m", "q8_0"]
    assert metrics.decode_speed("q4_0")
    assert "peak_bytes" not in (artifacts["export"] / "export.json").read_text(), "what moves is no part of the bytes"


def test_q4_k_m_is_there_and_runs(artifacts: dict[str, Path]) -> None:
    """`export` had llama.cpp compute with each file; here the file's own words."""
    reader = GGUFReader(artifacts["export"] / "gguf" / "model-q4_k_m.gguf")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.0.attn_output.weight"] == "Q8_0" or kinds["blk.0.attn_output.weight"].startswith("Q5")
    assert reader.fields["general.file_type"].parts[-1][0] == 15
    assert "gguf/model-q4_k_m.gguf" in json.loads((artifacts["export"] / "export.json").read_text())["files"]
    importance = load_file(artifacts["quantize"] / "importance.safetensors")
    _, stored = read_units(artifacts["quantize"] / "int4")
    assert importance["model.layers.1.mlp.experts.down_proj.weight"].shape == (8, 32)
    assert set(importance) < set(stored)


def test_the_first_family_has_a_configuration_for_vllm(artifacts: dict[str, Path], tmp_path: Path) -> None:
    made = artifacts | {name: tmp_path / name for name in ("model", "quantize", "export")}
    size = load_config(artifacts["grpo"] / "model").vocab_size
    model = tiny_model(Family.DEEPSEEK, vocab_size=size, moe_intermediate_size=32, hidden_size=64)
    save_model(model, made["model"] / "model", artifacts["tokenizer"])
    quantize(CONFIG.model_copy(update={"calibration_sequences": 4, "evaluation_sequences": 2}), made, made["quantize"])
    export(ExportConfig(gguf=False), made, made["export"])
    for kind in ("hf", "compressed"):
        own, told = (
            json.loads((made["export"] / kind / name).read_text())
            for name in ("config.json", "vllm-config/config.json")
        )
        assert (own["model_type"], told["model_type"]) == ("deepseek", "deepseek_v2")
        assert own.get("quantization_config") == told.get("quantization_config")
    card = (made["export"] / "MODEL_CARD.md").read_text()
    assert "VLLM_MLA_DISABLE=1 vllm serve compressed --hf-config-path compressed/vllm-config" in card
