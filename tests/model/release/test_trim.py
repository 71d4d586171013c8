"""A trimmed release: fewer rows, the same predictions among what is left, in every file."""

from __future__ import annotations

import json
import math
import shutil
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from model.architecture.checkpoint import load_config, load_model, save_model
from model.evaluation.evaluate import evaluate, evaluate_release
from model.evaluation.recut import Recut
from model.evaluation.sections import EvaluateConfig, EvaluateReleaseConfig
from model.facts.evaluation import RELEASE, read_evaluation
from model.facts.release import read_quantization
from model.release.export import export
from model.release.quantize import quantize
from model.release.quantized import load_quantized
from model.release.trim import token_counts, trim_folder, trim_vocabulary
from model.sections import ExportConfig, QuantizeConfig
from model.training.batches import TrainingBatch
from pipeline.tokens.reader import ShardReader
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_model

CONFIG = QuantizeConfig(calibration_sequences=4, evaluation_sequences=2, accuracy_problems=0, min_token_count=80)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = shared_artifacts()
    made |= {name: tmp_path_factory.mktemp(name) for name in ("evaluate", "whole", "export")}
    made["model"] = made["grpo"]
    evaluate(EvaluateConfig(problems=2, max_new_tokens=2, sequences=2), made, made["evaluate"])
    quantize(CONFIG.model_copy(update={"min_token_count": 0}), made, made["whole"])
    made["quantize"] = made["whole"].with_name("trimmed")
    shutil.copytree(made["whole"], made["quantize"])
    return made


@pytest.fixture(scope="module")
def report(made: dict[str, Path]) -> Any:
    whole = read_quantization(made["whole"])
    found = trim_vocabulary(CONFIG, made, made["model"] / "model", made["quantize"], whole)
    (made["quantize"] / "quantization.json").write_text(json.dumps(found.written()))
    export(ExportConfig(title="Tiny", q4_k_m=False), made, made["export"])  # llama.cpp has computed with the files
    return found


def _tokenizers(made: dict[str, Path]) -> Any:
    folders = (made["tokenizer"], made["quantize"] / "tokenizer")
    return tuple(Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in folders)


def test_counts_are_those_of_a_loop(made: dict[str, Path]) -> None:
    size = load_config(made["model"] / "model").vocab_size
    text_alone = made | {"reasoning": made["reasoning"]}
    counts_V = token_counts(CONFIG, text_alone, size)
    reader, slow = ShardReader(made["shards"], "train", global_batch=1), np.zeros(size, dtype=int)
    for step in range(reader.rows):
        for token in reader.batch(step).tokens[0].tolist():
            slow[token] += 1
    assert (counts_V >= slow).all()
    words = Tokenizer.from_file(str(made["tokenizer"] / "tokenizer.json"))
    with (made["reasoning"] / "train.jsonl").open() as handle:
        questions = sum(json.loads(line)["question"].count("3") for line in handle)
    assert counts_V[words.token_to_id("3")] >= slow[words.token_to_id("3")] + questions > slow[words.token_to_id("3")]


def test_every_model_has_the_rows_that_are_left(made: dict[str, Path], report: Any) -> None:
    before, after = _tokenizers(made)
    assert report.vocabulary == after.get_vocab_size() < before.get_vocab_size()
    whole: Any = read_quantization(made["whole"])
    for name in ("int8", "int4"):
        assert load_config(made["quantize"] / name).vocab_size == report.vocabulary
        assert report.precisions[name].bytes < whole.precisions[name].bytes
        assert report.precisions[name].bytes == (made["quantize"] / name / "model.safetensors").stat().st_size
    assert report.parameters == whole.parameters - 2 * 32 * (before.get_vocab_size() - after.get_vocab_size())
    eos = json.loads((made["quantize"] / "int4" / "config.json").read_text())["eos_token_id"]
    assert after.id_to_token(eos) == "<|eos|>"


@torch.no_grad()
def test_it_predicts_as_before_among_the_tokens_that_are_left(made: dict[str, Path], report: Any) -> None:
    before, after = _tokenizers(made)
    rows = (_row(made, step) for step in range(50))
    old = next(row for row in rows if all(after.token_to_id(before.id_to_token(token)) is not None for token in row))
    new = [after.token_to_id(before.id_to_token(token)) for token in old]
    kept = [before.token_to_id(after.id_to_token(number)) for number in range(report.vocabulary)]
    for name in ("int4", "int8"):
        whole, trimmed = (load_quantized(made[kind] / name) for kind in ("whole", "quantize"))
        wanted = whole.lm_head(whole.hidden(torch.tensor([old])))[..., kept]
        found = trimmed.lm_head(trimmed.hidden(torch.tensor([new])))
        torch.testing.assert_close(found, wanted)


def _row(made: dict[str, Path], step: int) -> list[int]:
    return ShardReader(made["shards"], "train", global_batch=1).batch(step).tokens[0, :12].tolist()


@torch.no_grad()
def test_it_is_measured_on_the_text_that_the_whole_model_read(
    made: dict[str, Path], report: Any, tmp_path: Path
) -> None:
    """Bits per byte of the words of each document, whatever they are cut into, by a loop over documents."""
    config = EvaluateReleaseConfig(problems=2, max_new_tokens=2, sequences=2)
    evaluate_release(config, made, tmp_path)
    found = read_evaluation(tmp_path).checkpoints[RELEASE]
    before, after = _tokenizers(made)
    model, lost = load_quantized(made["quantize"] / "int4"), 0
    for source in ("book", "wiki"):
        rows = ShardReader(made["shards"], "validation", global_batch=2, mixture={source: 1.0}, verify=False).batch(0)
        nats, size = 0.0, 0
        for tokens, documents in zip(rows.tokens.tolist(), rows.documents.tolist(), strict=True):
            lost += sum(after.token_to_id(before.id_to_token(token)) is None for token in tokens)
            row = [
                (token, document)
                for document, piece in groupby(zip(tokens, documents, strict=True), key=itemgetter(1))
                for token in after.encode(before.decode([old for old, _ in piece], skip_special_tokens=False)).ids
            ]
            for start in range(0, len(row), 48):  # what does not fit goes on in a row of its own
                for _, piece in groupby(row[start : start + 48], key=itemgetter(1)):
                    new = [token for token, _ in piece]
                    chances = model.lm_head(model.hidden(torch.tensor([new])))[0, :-1].log_softmax(-1)
                    nats -= chances[torch.arange(len(new) - 1), new[1:]].sum().item()
                    size += len(after.decode(new[1:]).encode())
        assert found.bits_per_byte[source] == pytest.approx(nats / size / math.log(2), rel=1e-5)
    assert lost


def test_text_cut_anew_is_the_same_text_in_rows_of_the_same_length(made: dict[str, Path], report: Any) -> None:
    before, after = _tokenizers(made)
    recut = Recut(made["tokenizer"], made["quantize"] / "tokenizer")
    whole = ShardReader(made["shards"], "validation", global_batch=4, verify=False).batch(0)
    mask_BT = torch.tensor([True, True, True, False])[:, None].expand_as(whole.tokens)
    found = recut(TrainingBatch(whole.tokens, whole.documents, mask_BT))
    assert found.tokens_BT.shape[1] == whole.tokens.shape[1]
    assert len(found.tokens_BT) > 4
    assert found.loss_mask_BT is not None
    words = [row[kept].tolist() for row, kept in zip(found.tokens_BT, found.loss_mask_BT, strict=True)]
    assert "".join(map(after.decode, words)) == "".join(before.decode_batch(whole.tokens[:3].tolist()))


def test_all_exported_files_have_the_trimmed_vocabulary(made: dict[str, Path], report: Any) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(made["export"] / "hf", dtype=torch.float32).eval()
    ours = load_model(made["quantize"] / "checkpoint")
    tokens_BT = torch.tensor([[5, 20, 77, 130]])
    with torch.no_grad():
        found = ours.lm_head(ours.hidden(tokens_BT))
        torch.testing.assert_close(found, theirs(tokens_BT).logits, atol=1e-4, rtol=0)
    assert found.shape[-1] == report.vocabulary
    verified = json.loads((made["export"] / "export.json").read_text())["verified"]["llama.cpp"]
    assert verified["tokens_equal"]
    assert verified["top1_equal"]
    for name in ("hf", "model", "compressed"):
        words = Tokenizer.from_file(str(made["export"] / name / "tokenizer.json"))
        assert words.get_vocab_size() == report.vocabulary
    assert f"trimmed to the {report.vocabulary} tokens" in (made["export"] / "MODEL_CARD.md").read_text()


@torch.no_grad()
def test_layers_of_multi_token_prediction_lose_the_same_rows(made: dict[str, Path], tmp_path: Path) -> None:
    size = load_config(made["model"] / "model").vocab_size
    model = tiny_model(vocab_size=size, num_nextn_predict_layers=1)
    save_model(model, tmp_path / "model", made["tokenizer"])
    kept = [number for number in range(size) if number % 7 or number < 7]
    trim_folder(tmp_path / "model", kept, made["tokenizer"])
    trimmed = load_model(tmp_path / "model", prediction=True)
    new_BT = torch.tensor([[1, 30, 31, 99, 7]])
    (wanted, deeper), (found, theirs) = (
        each(tokens_BT, mtp=True) for each, tokens_BT in ((model, torch.tensor(kept)[new_BT]), (trimmed, new_BT))
    )
    torch.testing.assert_close(found, wanted[..., kept])
    torch.testing.assert_close(theirs, deeper[..., kept])
