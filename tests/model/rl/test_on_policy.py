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
    from model.training.engine import SingleEngine

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
    other = on_policy(config(), inputs() | {"teacher": inputs()["start"]}, tmp_path / "itself")
    assert other.steps == 6
    alike = json.loads((tmp_path / "itself" / "history.json").read_text())["steps"]
    assert alike[0]["loss"] == pytest.approx(0.0, abs=1e-6), "nothing to learn from oneself"


def test_a_teacher_of_another_vocabulary(tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "teacher" / "model", inputs()["tokenizer"])
    with pytest.raises(UserError, match="the teacher knows 97 tokens and the student"):
        on_policy(config(), inputs() | {"teacher": tmp_path / "teacher"}, tmp_path / "out")
