"""Continued pretraining: from a stage or a folder, both losses tracked, too much forgetting told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY
from model.evaluate import evaluate
from model.evaluate_sections import EvaluateConfig
from model.finetune_sections import ContinuedConfig
from model.training.continued import continued
from tests.model.artifacts import make_artifacts
from tests.pipeline.corpus import published


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_artifacts(tmp_path_factory.mktemp("continued"))


def _config(**changes: Any) -> ContinuedConfig:
    fields: dict[str, Any] = {
        "steps": 4, "batch_size": 4, "learning_rate": 3e-3, "warmup_steps": 0, "domain": ("book",),
        "mixture": {"book": 0.9, "wiki": 0.1}, "validation_sequences": 3,
    }  # fmt: skip
    return ContinuedConfig.model_validate(fields | changes)


def _read(inputs: dict[str, Path]) -> dict[str, Path]:
    return {name: inputs[name] for name in ("shards", "tokenizer")} | {"start": inputs["pretrain"]}


def test_domain_and_general_are_tracked_as_the_evaluation_measures_them(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    metrics = continued(_config(), _read(inputs), tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [row["step"] for row in history["validation"]] == [0, 4]
    assert metrics["bits_per_byte_domain_after"] < metrics["bits_per_byte_domain_before"]
    ratio = metrics["bits_per_byte_general_after"] / metrics["bits_per_byte_general_before"]
    assert metrics["forgetting"] == pytest.approx(ratio - 1, abs=1e-4)
    (tmp_path / "out").mkdir()
    config = EvaluateConfig(problems=1, max_new_tokens=2, sequences=3, prompts=(), samples=0)
    measured = evaluate(config, {**inputs, "continued": tmp_path}, tmp_path / "out")
    assert measured["bits_per_byte_continued_book"] == pytest.approx(metrics["bits_per_byte_book_after"], rel=1e-4)


def test_a_checkpoint_folder_is_as_good_as_a_stage(inputs: dict[str, Path], tmp_path: Path) -> None:
    continued(_config(), _read(inputs), tmp_path / "stage")
    folder = str(inputs["pretrain"] / "model")
    read = {name: inputs[name] for name in ("shards", "tokenizer")}
    continued(_config(checkpoint=(folder,)), read, tmp_path / "folder")
    assert published(tmp_path / "stage") == published(tmp_path / "folder")


def test_two_ranks_measure_what_one_does(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = continued(_config(), _read(inputs), tmp_path / "one")
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"ranks": 2, "expert_parallel": 2}))
    two = continued(_config(), _read(inputs), tmp_path / "two")
    for name in ("bits_per_byte_domain_before", "bits_per_byte_general_before"):
        assert two[name] == pytest.approx(one[name], rel=1e-5)
    assert two["bits_per_byte_domain_after"] == pytest.approx(one["bits_per_byte_domain_after"], rel=1e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domain": ("maths",)}, "domain: no source is named maths; there are book, wiki"),
        ({"mixture": {"maths": 1.0}}, "maths"),
        ({"checkpoint": ("/nowhere",)}, r"continued\.checkpoint: /nowhere: name one local folder"),
        ({"mixture": {"book": 1.0}, "learning_rate": 30.0, "max_forgetting": 0.01}, "general bits per byte rose by"),
    ],
)
def test_what_is_wrong_is_said(inputs: dict[str, Path], tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        continued(_config(**changes), _read(inputs), tmp_path)


def test_nothing_to_start_from(inputs: dict[str, Path], tmp_path: Path) -> None:
    read = {name: inputs[name] for name in ("shards", "tokenizer")}
    with pytest.raises(UserError, match="nothing to start from"):
        continued(_config(), read, tmp_path)
