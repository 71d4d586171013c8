"""The stage `on_policy`: the divergence by its definition, a student that comes closer, the same bytes when killed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY
from model.architecture.checkpoint import save_model
from model.finetune_sections import OnPolicyConfig
from model.rl.loss import reverse_divergence
from model.rl.on_policy import on_policy
from model.training.engine import SingleEngine
from tests.model.artifacts import shared_artifacts
from tests.model.conftest import tiny_model
from tests.pipeline.corpus import published


def config(**changes: Any) -> OnPolicyConfig:
    fields: dict[str, Any] = {
        "steps": 6, "questions": 4, "group_size": 2, "max_new_tokens": 8, "accuracy_tasks": 2, "learning_rate": 1e-2,
        "replay": {"text": 0.0, "validation_sequences": 0},
    }  # fmt: skip
    return OnPolicyConfig.model_validate(fields | changes)


def inputs() -> dict[str, Path]:
    made = shared_artifacts()
    return {name: made[name] for name in ("tokenizer", "reasoning")} | {"start": made["sft"], "teacher": made["grpo"]}


def test_the_divergence_and_its_gradient() -> None:
    student = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0, 0.5], [2.0, 0.0, 0.0]], dtype=torch.float64)
    found, entropy = reverse_divergence(student, teacher)
    for row in range(2):
        p, q = (
            [math.exp(x) / sum(map(math.exp, each)) for x in each]
            for each in (student[row].tolist(), teacher[row].tolist())
        )
        assert found[row].item() == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        assert entropy[row].item() == pytest.approx(-sum(a * math.log(a) for a in p))
    assert found[1].item() == pytest.approx(0.0)
    assert torch.autograd.gradcheck(lambda logits: reverse_divergence(logits, teacher)[0], student)


def test_a_student_comes_closer_and_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"checkpoints": {"seconds": 0}}))
    found = on_policy(config(), inputs(), tmp_path / "whole")
    steps = json.loads((tmp_path / "whole" / "history.json").read_text())["steps"]
    assert found.answers == 6 * 8
    assert steps[-1]["loss"] < 0.7 * steps[0]["loss"]

    class CutError(Exception):
        pass

    whole, made = SingleEngine.step, iter(range(100))

    def step(engine: SingleEngine, rate: float) -> torch.Tensor:
        if next(made) == 3:
            raise CutError
        return whole(engine, rate)

    with monkeypatch.context() as patch:
        patch.setattr(SingleEngine, "step", step)
        with pytest.raises(CutError):
            on_policy(config(), inputs(), tmp_path / "cut")
    on_policy(config(), inputs(), tmp_path / "cut")
    assert published(tmp_path / "cut") == published(tmp_path / "whole")


def test_nothing_to_learn_from_oneself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a step's answers are gone through as often as asked."""
    rates = []
    monkeypatch.setattr(SingleEngine, "step", lambda engine, rate: rates.append(rate) or torch.zeros(()))
    teacher = {"teacher": inputs()["start"]}
    on_policy(config(steps=2, passes=3, minibatches=2), inputs() | teacher, tmp_path / "itself")
    steps = json.loads((tmp_path / "itself" / "history.json").read_text())["steps"]
    assert [row["loss"] for row in steps] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert len(rates) == 2 * 3 * 2


def test_a_teacher_of_another_vocabulary(tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "teacher" / "model", inputs()["tokenizer"])
    with pytest.raises(UserError, match="the teacher knows 97 tokens and the student"):
        on_policy(config(), inputs() | {"teacher": tmp_path / "teacher"}, tmp_path / "out")


def test_an_error_names_the_stage_that_runs(tmp_path: Path) -> None:
    teacher = {"teacher": inputs()["start"]}
    with pytest.raises(UserError, match=r"^on_policy\.tasks: no task is named nothing; there are "):
        on_policy(config(tasks=("nothing",)), inputs() | teacher, tmp_path / "out")
