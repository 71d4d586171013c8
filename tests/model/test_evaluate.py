"""The stage `evaluate`: intervals, bits per byte against plain arithmetic, the same bytes twice."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from model.checkpoint import load_model
from model.evaluate import evaluate, wilson
from model.sections import EvaluateConfig
from pipeline.reader import ShardReader
from tests.model.artifacts import make_artifacts
from tests.pipeline.corpus import published

CONFIG = EvaluateConfig(problems=5, max_new_tokens=8, sequences=3, samples=2, continuation_tokens=4)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_artifacts(tmp_path_factory.mktemp("evaluate"))


def test_wilson() -> None:
    low, high = wilson(50, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert wilson(0, 10)[0] == pytest.approx(0.0, abs=1e-12)
    assert wilson(0, 10)[1] == pytest.approx(0.2775, abs=1e-4)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


def test_the_artifact_is_complete_and_the_same_twice(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = evaluate(CONFIG, inputs, tmp_path / "a") if (tmp_path / "a").mkdir() is None else {}
    (tmp_path / "b").mkdir()
    evaluate(CONFIG, inputs, tmp_path / "b")
    assert published(tmp_path / "a") == published(tmp_path / "b")
    found = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    assert list(found["checkpoints"]) == ["grpo", "pretrain", "sft"]
    assert found["checkpoints"]["sft"]["problems"] == 5
    assert len(found["samples"]) == 6
    assert [row["prompt"] for row in found["continuations"][:3]] == list(CONFIG.prompts)
    assert metrics["accuracy_sft"] == found["checkpoints"]["sft"]["accuracy"]


def test_bits_per_byte_are_those_of_plain_arithmetic(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = evaluate(CONFIG, inputs, tmp_path)
    model = load_model(inputs["sft"] / "model")
    words = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))
    for source in ("book", "wiki"):
        reader = ShardReader(inputs["shards"], "validation", global_batch=1, mixture={source: 1.0})
        bits, size = 0.0, 0
        for step in range(min(3, reader.source_rows[source])):
            row = reader.batch(step)
            with torch.no_grad():
                logits_TV = model.lm_head(model.hidden(row.tokens, row.documents))[0].double().log_softmax(-1)
            tokens, documents = row.tokens[0].tolist(), row.documents[0].tolist()
            for place in range(1, len(tokens)):
                if documents[place] != documents[place - 1]:
                    continue
                bits -= logits_TV[place - 1, tokens[place]].item() / math.log(2)
                special = (words.id_to_token(tokens[place]) or "").startswith(("<|", "<think", "</think"))
                size += 0 if special else len(words.id_to_token(tokens[place]) or "")
        assert metrics[f"bits_per_byte_sft_{source}"] == pytest.approx(bits / size, rel=1e-4)
