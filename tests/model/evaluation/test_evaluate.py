"""The stage `evaluate`: intervals, bits per byte against plain arithmetic, the same bytes twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from infra.errors import UserError
from model.architecture.checkpoint import load_model
from model.evaluation.evaluate import evaluate
from model.evaluation.sections import EvaluateConfig
from pipeline.reasoning.problems import read_tasks
from pipeline.tokens.reader import ShardReader
from tests.model.artifacts import shared_artifacts
from tests.pipeline.corpus import published

CONFIG = EvaluateConfig(problems=5, max_new_tokens=8, sequences=3, samples=2, continuation_tokens=4)


@pytest.fixture(scope="module")
def inputs() -> dict[str, Path]:
    return shared_artifacts()


def test_the_artifact_is_complete_and_the_same_twice(inputs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    metrics = evaluate(CONFIG, inputs, tmp_path / "a").written()
    evaluate(CONFIG, inputs, tmp_path / "b")
    assert published(tmp_path / "a") == published(tmp_path / "b")
    found = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    assert list(found["checkpoints"]) == ["grpo", "pretrain", "sft"]
    assert found["checkpoints"]["sft"]["problems"] == 5
    assert len(found["samples"]) == 6
    assert [row["prompt"] for row in found["continuations"][:3]] == list(CONFIG.prompts)
    assert metrics["accuracy_sft"] == found["checkpoints"]["sft"]["accuracy"]
    assert found["order"] == ["pretrain", "sft", "grpo"]
    clean = {"problems": 5, "removed_from_text": None, "in_training_questions": 0}
    assert found["decontamination"] == {"reasoning/test": clean}
    page = (tmp_path / "a" / "samples.html").read_text()
    assert page.count("<article>") == 2
    assert "http" not in page


def test_suites_samples_and_the_domain(inputs: dict[str, Path], tmp_path: Path) -> None:
    gsm8k = [
        {"question": f"What is {n} + 1? <b>", "answer": f"It is <<{n}+1={n + 1}>>{n + 1}.\n#### {n + 1}"}
        for n in range(6)
    ]
    (tmp_path / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in gsm8k))
    choice = [{"question": f"Which is {n}?", "choices": ["a", str(n)], "answer": "B"} for n in range(4)]
    (tmp_path / "choice.jsonl").write_text("".join(json.dumps(row) + "\n" for row in choice))
    suites = {
        "gsm8k": {"paths": [str(tmp_path / "gsm8k.jsonl")], "problems": 4},
        "choice": {"kind": "choice", "paths": [str(tmp_path / "choice.jsonl")]},
        "gcd": {"kind": "reasoning_gym", "dataset": "gcd", "problems": 3},
    }
    changes = {"suites": suites, "samples_per_problem": 3, "sampled_problems": 4, "domain": ("book",)}
    out = tmp_path / "out"
    out.mkdir()
    metrics = evaluate(EvaluateConfig.model_validate(CONFIG.model_dump() | changes), inputs, out).written()
    found = json.loads((out / "evaluation.json").read_text())["checkpoints"]["sft"]
    assert {name: marks["problems"] for name, marks in found["suites"].items()} == {"choice": 4, "gcd": 3, "gsm8k": 4}
    assert found["suites"]["choice"]["chance"] == 0.5
    assert found["pass@1"] <= found["pass@2"] <= found["pass@3"]
    assert {"maj@3", "bits_per_byte_domain", "bits_per_byte_general", "pass@3_interval"} <= found.keys()
    assert metrics["pass_at_3_sft"] == found["pass@3"]
    page = (out / "samples.html").read_text()
    assert page.count("choice: ") == page.count("pass@3 ") == 3
    assert f"gsm8k: {found['suites']['gsm8k']['accuracy']:.1%} of 4 right" in page
    assert metrics["bits_per_byte_domain_sft"] == pytest.approx(metrics["bits_per_byte_sft_book"])


def test_suites_pass_over_training_questions(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Sixty of the few sums of two digits that there are."""
    trained = [row["question"] for row in read_tasks(inputs["reasoning"] / "train.jsonl")]
    options = {"min_terms": 2, "max_terms": 2, "max_digits": 1, "operators": ("+",), "allow_parentheses": False}
    made = {"kind": "reasoning_gym", "dataset": "basic_arithmetic", "options": options}
    own = [{"question": question, "answer": "1"} for question in (trained[0], "New?", trained[1].upper(), "Newer?")]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    suites = {
        "some": made | {"problems": 15},
        "all": made | {"problems": 100},
        "trained": made | {"problems": 80, "training_questions": True},
        "own": {"paths": [str(tmp_path / "own.jsonl")], "problems": 1},
    }
    evaluate(EvaluateConfig.model_validate(CONFIG.model_dump() | {"suites": suites}), inputs, tmp_path)
    found = json.loads((tmp_path / "evaluation.json").read_text())
    asked = {name: marks["problems"] for name, marks in found["checkpoints"]["sft"]["suites"].items()}
    left_out = found["training_questions_left_out"]
    assert asked == {"some": 15, "all": asked["all"], "trained": 80, "own": 1}
    assert asked["all"] < 100 <= asked["all"] + 60
    assert left_out == {"some": left_out["some"], "all": 60, "trained": 0, "own": 1}
    assert 0 < left_out["some"] < 60
    overlap = {name: row["in_training_questions"] for name, row in found["decontamination"].items()}
    assert overlap["trained"] > 20
    assert [overlap[name] for name in ("some", "all", "own")] == [0, 0, 0]
    assert (
        f"training questions: {left_out['some']} of some, 60 of all, 1 of own."
        in (tmp_path / "samples.html").read_text()
    )


def test_a_suite_of_training_questions_alone_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    trained = read_tasks(inputs["reasoning"] / "train.jsonl")[0]["question"]
    (tmp_path / "own.jsonl").write_text(json.dumps({"question": trained, "answer": "1"}) + "\n")
    changes = {"suites": {"own": {"paths": [str(tmp_path / "own.jsonl")]}}}
    with pytest.raises(UserError, match=r"suites\.own: all its 1 questions are training questions"):
        evaluate(EvaluateConfig.model_validate(CONFIG.model_dump() | changes), inputs, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domain": ("nonsense",)}, r"evaluate: domain: no source is named nonsense; there are book, wiki"),
        ({"suites": {"x": {"kind": "reasoning_gym", "dataset": "no"}}}, r"evaluate\.suites\.x: reasoning-gym has no"),
    ],
)
def test_wrong_recipes(inputs: dict[str, Path], tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(EvaluateConfig.model_validate(CONFIG.model_dump() | changes), inputs, tmp_path)


def test_bits_per_byte_are_those_of_plain_arithmetic(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = evaluate(CONFIG, inputs, tmp_path).written()
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
