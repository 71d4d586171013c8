"""The training loop: engines agree, killed runs go on bit for bit, bad losses are caught."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY
from infra.launch import RankError, launch
from model.sections import BadStep, Schedule
from model.training.batches import TrainingBatch
from model.training.engine import threads_for
from model.training.next_token import train
from model.training.schedule import learning_rate
from tests.model.conftest import tiny_model
from tests.model.synthetic import CountingBatches, small_training
from tests.model.training.layouts import run_job


def _wide(ranks: int) -> dict[str, object]:
    return {"ranks": ranks, "expert_parallel": ranks, "checkpoints": {"seconds": 0}}


def _history(out: Path) -> list[dict[str, float]]:
    return json.loads((out / "history.json").read_text())


@pytest.mark.parametrize(("ranks", "signum"), [(1, signal.SIGKILL), (2, signal.SIGTERM)])
def test_a_killed_run_goes_on_bit_for_bit(
    ranks: int, signum: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job goes on from the checkpoint; another, with the same ranks, trains undisturbed."""
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps(_wide(ranks)))
    cut = {"out": str(tmp_path / "cut"), "family": "deepseek_v3", "kill_at": 3, "signal": signum}
    (tmp_path / "cut").mkdir()
    with pytest.raises((RankError, SystemExit)):
        launch("tests.model.synthetic:run_rank", cut, ranks)
    pointer = json.loads((tmp_path / "cut" / "snapshots" / "latest.json").read_text())
    assert pointer["step"] == (3 if signum == signal.SIGKILL else 4)
    jobs = [{"name": name, "execution": _wide(ranks)} for name in ("cut", "whole")]
    if ranks == 1:
        for job in jobs:
            run_job(job, tmp_path)
    else:
        launch("tests.model.training.layouts:run_rank", {"jobs": jobs, "folder": str(tmp_path)}, ranks)
    assert _history(tmp_path / "whole") == _history(tmp_path / "cut")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


class _Spoiled(CountingBatches):
    """Turns one step's loss into no number by way of the weights of a hook-free model: an empty batch of targets."""

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        batch = super().batch(step, rank, world)
        if step == 2:
            return TrainingBatch(
                batch.tokens_BT, batch.documents_BT, torch.zeros_like(batch.tokens_BT, dtype=torch.bool)
            )
        return batch


def test_a_bad_step_is_skipped_or_stops(tmp_path: Path) -> None:
    result = train(tiny_model(), _Spoiled(), small_training(), tmp_path / "skip")
    assert result.skipped == [3]
    assert len(result.history) == 6
    with pytest.raises(UserError, match="step 3"):
        train(tiny_model(), _Spoiled(), small_training(bad_step=BadStep.STOP), tmp_path / "stop")


def test_a_loss_that_is_no_number_leaves_the_weights_alone(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = train(model, CountingBatches(), small_training(steps=3), tmp_path)
    assert result.skipped == [1, 2, 3]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


def test_micro_batches_do_not_change_the_gradient(tmp_path: Path) -> None:
    whole = train(tiny_model(), CountingBatches(), small_training(), tmp_path / "a").history
    parts = train(tiny_model(), CountingBatches(), small_training(micro_batch=2), tmp_path / "b").history
    for mine, other in zip(whole, parts, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert mine["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


def test_schedules() -> None:
    config = small_training(steps=100, warmup_steps=10, learning_rate=1.0, schedule=Schedule.MULTI_STEP)
    assert [learning_rate(config, step) for step in (0, 9, 10, 79, 80, 90)] == [0.1, 1.0, 1.0, 1.0, 0.316, 0.1]
    cosine = config.model_copy(update={"schedule": Schedule.COSINE})
    assert learning_rate(cosine, 10) == pytest.approx(1.0)
    assert learning_rate(cosine, 55) == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("environment", "ranks", "threads"),
    [({}, 1, 4), ({}, 2, 2), ({"OMP_NUM_THREADS": "1"}, 1, 1), ({"OMP_NUM_THREADS": "9"}, 1, 4),
     ({"OMP_NUM_THREADS": "x"}, 1, 4), ({"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}, 1, 4),
     ({"WORLD_SIZE": "8"}, 8, 1)],
)  # fmt: skip
def test_threads(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], ranks: int, threads: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    for name in ("OMP_NUM_THREADS", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert threads_for(ranks) == threads
