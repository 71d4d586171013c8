"""What goes wrong in a long training, made to happen: each is caught, told in one line, and costs little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from infra import events
from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY
from model.sections import BadStep
from model.training.batches import TrainingBatch
from model.training.guard import RECENT, SpikeGuard
from model.training.next_token import train
from pipeline.tokens.passes import ADVICE
from tests.model.conftest import tiny_model
from tests.model.synthetic import CountingBatches, small_training
from tests.model.training.layouts import StoppedError, StoppingBatches


@pytest.fixture(autouse=True)
def _a_checkpoint_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"checkpoints": {"seconds": 0}}))


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv(events.ENVIRONMENT_KEY, str(path))
    return path


def _told(notes: Path) -> list[str]:
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    return [line["text"] for line in lines if line["event"] == "note"]


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A run that stopped before its fifth step, with checkpoints of the steps 3 and 4."""
    with pytest.raises(StoppedError):
        train(tiny_model(), StoppingBatches(4), small_training(), tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").glob("step-*")) == ["step-00000003", "step-00000004"]
    return tmp_path / "run"


def _spoil(checkpoint: Path) -> None:
    path = next(checkpoint.glob("rank-*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def _go_on(folder: Path, **changes: Any) -> list[dict[str, float]]:
    return train(tiny_model(**changes), CountingBatches(), small_training(), folder).history


def test_a_corrupt_shard_is_passed_over_for_the_checkpoint_before(cut: Path, notes: Path, tmp_path: Path) -> None:
    _spoil(cut / "step-00000004")
    assert _go_on(cut) == _go_on(tmp_path / "undisturbed")
    (line,) = _told(notes)
    assert "step-00000004" in line
    assert line.endswith("going on from step-00000003 instead")


def test_no_whole_checkpoint_is_left(cut: Path) -> None:
    _spoil(cut / "step-00000004")
    next((cut / "step-00000003").glob("rank-*.safetensors")).unlink()
    with pytest.raises(UserError, match=r"step-00000004.*damaged.*no older checkpoint is whole: delete"):
        _go_on(cut)


def test_a_missing_shard(cut: Path, notes: Path) -> None:
    next((cut / "step-00000004").glob("rank-*.safetensors")).unlink()
    _go_on(cut)
    assert "missing" in _told(notes)[0]


def test_a_torn_checkpoint_is_no_checkpoint(cut: Path, notes: Path, tmp_path: Path) -> None:
    """Killed while writing: the folder has not got its name, or not its index."""
    (cut / "step-00000005.part").mkdir()
    (cut / "step-00000006").mkdir()
    assert _go_on(cut) == _go_on(tmp_path / "undisturbed")
    assert _told(notes) == []


def test_a_changed_vocabulary(cut: Path) -> None:
    with pytest.raises(UserError, match=r"lm_head.weight is \[97, 32\] in the checkpoint and \[101, 32\] in the model"):
        _go_on(cut, vocab_size=101)


def test_tokens_that_the_model_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step 1: token 9[0-9] in the data, the model knows 90: other tokenizer"):
        train(tiny_model(vocab_size=90), CountingBatches(), small_training(), tmp_path)


def test_the_data_are_read_again(tmp_path: Path, notes: Path) -> None:
    source = CountingBatches()
    source.epoch_steps = 4  # type: ignore[attr-defined]
    train(tiny_model(), source, small_training(), tmp_path / "run")
    assert _told(notes) == ["6 steps read the data 1.5 times over"]


def test_a_source_that_is_read_too_often_is_told(tmp_path: Path, notes: Path) -> None:
    source = CountingBatches()
    source.repeated = "maths is read 9.0 times over"  # type: ignore[attr-defined]
    train(tiny_model(), source, small_training(), tmp_path / "run")
    assert _told(notes) == [f"maths is read 9.0 times over: {ADVICE}"]


class _Jumping(CountingBatches):
    """Sets the wall clock back by a day in the middle."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.patch, self.real = patch, time.time

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """As the base class."""
        self.patch.setattr(time, "time", lambda: self.real() - 86_400 * (step >= 2) + 86_400 * 365 * (step >= 4))
        return super().batch(step, rank, world)


def test_the_clock_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = train(tiny_model(), _Jumping(monkeypatch), small_training(), tmp_path / "jumped")
    monkeypatch.undo()
    assert 0 < result.facts.tokens_per_second < 1e7
    assert result.facts.checkpoints == 5
    assert result.history == train(tiny_model(), CountingBatches(), small_training(), tmp_path / "plain").history


class _Spiking(CountingBatches):
    """One batch of noise after the loss has come down."""

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """As the base class, but for one step."""
        batch = super().batch(step, rank, world)
        if step != 60:
            return batch
        noise_BT = torch.randint(0, 97, batch.tokens_BT.shape, generator=torch.Generator().manual_seed(0))
        return TrainingBatch(noise_BT, batch.documents_BT, batch.loss_mask_BT)


def test_a_loss_spike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, "{}")
    config = small_training(steps=64, spike_factor=1.3, learning_rate=1e-2)
    result = train(tiny_model(), _Spiking(), config, tmp_path / "skip")
    assert result.skipped == [61]
    assert result.history[60]["grad_norm"] == 0.0
    with pytest.raises(UserError, match="step 61: loss"):
        train(tiny_model(), _Spiking(), config.model_copy(update={"bad_step": BadStep.STOP}), tmp_path / "stop")


def test_what_is_learnt_by_heart_has_no_spikes() -> None:
    """Ten times next to nothing is next to nothing: such a step has something left to teach."""
    guard = SpikeGuard(3.0, torch.device("cpu"))

    def judge(loss: float) -> bool:
        return bool(guard.judge(torch.tensor(loss, dtype=torch.float64)))

    guard.restore([0.001] * RECENT)
    assert judge(0.015)
    assert not judge(0.6)
    guard.restore([2.0] * RECENT)
    assert judge(5.9)
    assert not judge(6.1)
    guard.restore([2.0] * (RECENT - 1))  # too few to know what is usual
    assert judge(100.0)
    assert not judge(float("nan"))


def test_a_loss_that_is_not_a_number(tmp_path: Path, notes: Path) -> None:
    """NaN in one forward pass: no backward pass is made of it, and the weights stay what they were."""
    model, calls, seen = tiny_model(), iter(range(100)), []

    def poison(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if next(calls) != 2:
            return output
        seen.extend(value.detach().clone() for value in model.parameters())
        return output * float("nan")

    model.model.norm.register_forward_hook(poison)
    result = train(model, CountingBatches(), small_training(steps=3), tmp_path)
    assert result.skipped == [3]
    assert _told(notes) == ["step 3: loss nan, skipped"]
    for value, before in zip(model.parameters(), seen, strict=True):
        assert torch.equal(value, before)


@pytest.mark.parametrize("policy", BadStep)
def test_a_gradient_that_is_not_a_number(policy: BadStep, tmp_path: Path) -> None:
    """The loss is finite, so it is found only after the backward pass; nothing is updated with it."""
    model, calls, seen = tiny_model(), iter(range(100)), []

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        if next(calls) != 2:
            return gradient
        seen.extend(value.detach().clone() for value in model.parameters())
        return gradient * float("nan")

    model.lm_head.weight.register_hook(poison)
    config = small_training(steps=3, bad_step=policy)
    if policy is BadStep.STOP:
        with pytest.raises(UserError, match="step 3: a gradient that is not a number"):
            train(model, CountingBatches(), config, tmp_path)
    else:
        assert train(model, CountingBatches(), config, tmp_path).skipped == [3]
    for value, before in zip(model.parameters(), seen, strict=True):
        assert torch.equal(value, before)


def test_two_trainers_on_one_folder(tmp_path: Path) -> None:
    holder = (
        "import fcntl, sys, time; handle = open(sys.argv[1], 'w'); fcntl.flock(handle, fcntl.LOCK_EX);"
        "handle.write('process 4711 on elsewhere'); handle.flush(); print('held', flush=True); time.sleep(100)"
    )
    (tmp_path / "run").mkdir()
    other = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path / "run" / ".lock")], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match=r"another training \(process 4711 on elsewhere\) is writing"):
            train(tiny_model(), CountingBatches(), small_training(), tmp_path / "run")
    finally:
        other.kill()
        other.wait()
    train(tiny_model(), CountingBatches(), small_training(), tmp_path / "run")  # the kernel let go of the lock


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", str(place)], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("no full disk: cannot mount a small one (wants root)")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.drill
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_full_disk_costs_a_checkpoint_only(
    asynchronous: bool, small_disk: Path, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = {"seconds": 0, "keep": 1, "asynchronous": asynchronous}
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"checkpoints": policy}))
    history = train(tiny_model(), CountingBatches(), small_training(), small_disk / "run").history
    told = _told(notes)
    assert told
    assert all("was not written (the disk is full); training goes on without" in line for line in told)
    assert not list((small_disk / "run").glob("*.part"))
    monkeypatch.setenv(ENVIRONMENT_KEY, "{}")
    assert history == train(tiny_model(), CountingBatches(), small_training(), tmp_path / "plain").history
