"""The trainer: what a step waits for, what a snapshot carries, traces, reading ahead, and the stages' metrics."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.utils._python_dispatch import TorchDispatchMode

from infra import events
from infra.errors import UserError
from infra.execution import ENVIRONMENT_KEY, Execution
from infra.store import Staging
from model.training.batches import ReadAhead, TrainingBatch
from model.training.engine import SingleEngine
from model.training.journal import History, Journal
from model.training.next_token import NextToken, train
from model.training.replay import Replay
from model.training.trainer import RunLength, Trainer
from tests.model.conftest import tiny_model
from tests.model.synthetic import CountingBatches, small_training
from tests.model.training.layouts import StoppedError, StoppingBatches


def _every_step(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"checkpoints": {"seconds": 0}, **more}))


# -- what a step waits for -------------------------------------------------------------------------------------------


class _Readings(TorchDispatchMode):
    """Counts how often a value is taken out of a tensor: each would wait for a GPU."""

    def __init__(self, is_on_device: Callable[[torch.Tensor], bool]) -> None:
        super().__init__()
        self.count, self._is_on_device = 0, is_on_device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and self._is_on_device(args[0]):
            self.count += 1
        return func(*args, **(kwargs or {}))


class _AsOnAGpu(SingleEngine):
    """As the base class, except that it does not look at the norm, which a CPU may."""

    def step(self, learning_rate: float) -> torch.Tensor:
        """As the base class on a GPU."""
        self.device = torch.device("meta")  # anything but a CPU
        try:
            return super().step(learning_rate)
        finally:
            self.device = torch.device("cpu")


def test_a_step_reads_nothing_from_the_device() -> None:
    """What is computed from weights stays where it is; only the batch, which came from the host, is looked at."""
    config = small_training(micro_batch=2)
    engine = _AsOnAGpu(tiny_model(), config)
    task = NextToken(engine, CountingBatches(), config, 0, None, None, "train", Replay())
    task.begin(History(Journal(Path("unused"), writes=False)))
    with _Readings(lambda value: value.is_floating_point()) as readings:
        results = [task.step(step) for step in range(3)]
    assert readings.count == 0
    assert all(isinstance(result.numbers["loss"], torch.Tensor) for result in results)


def test_numbers_that_are_read_later_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU steps are logged some at a time; history, snapshots and what comes after a resume do not change."""
    _every_step(monkeypatch)
    whole = train(tiny_model(), CountingBatches(), small_training(steps=7, validate_every=3), tmp_path / "whole")
    init = Trainer.__init__

    def lazy(self: Trainer, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        self._log_every = 4

    monkeypatch.setattr(Trainer, "__init__", lazy)
    with pytest.raises(StoppedError):
        train(tiny_model(), StoppingBatches(5), small_training(steps=7, validate_every=3), tmp_path / "lazy")
    late = train(tiny_model(), CountingBatches(), small_training(steps=7, validate_every=3), tmp_path / "lazy")
    assert late.history == whole.history
    assert late.validation == whole.validation


# -- snapshots and the history ---------------------------------------------------------------------------------------


@pytest.fixture
def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 6 steps that was cut before the fifth."""
    _every_step(monkeypatch)
    with pytest.raises(StoppedError):
        train(tiny_model(), StoppingBatches(4), small_training(), tmp_path / "run")
    return tmp_path / "run"


def test_a_snapshot_does_not_carry_the_history(cut: Path) -> None:
    sizes = [(cut / f"step-0000000{step}" / "state.json").stat().st_size for step in (3, 4)]
    rows = (cut / "history.jsonl").read_text().splitlines()
    assert [json.loads(row)["steps"]["step"] for row in rows] == [1, 2, 3, 4]
    assert "grad_norm" not in (cut / "step-00000004" / "state.json").read_text()
    assert sizes[1] - sizes[0] < len(rows[-1])  # the recent expert loads are there, and there are never many


def test_what_was_written_after_the_snapshot_is_cut_off(cut: Path, tmp_path: Path) -> None:
    with (cut / "history.jsonl").open("a") as handle:
        handle.write('{"steps": {"step": 5, "loss": 99.0}}\n{"steps": {"st')
    resumed = train(tiny_model(), CountingBatches(), small_training(), cut)
    assert resumed.history == train(tiny_model(), CountingBatches(), small_training(), tmp_path / "whole").history
    rows = [json.loads(line)["steps"]["step"] for line in (cut / "history.jsonl").read_text().splitlines()]
    assert rows == [1, 2, 3, 4, 5]  # no snapshot follows the last step, so nothing needed the sixth there


@pytest.mark.parametrize("kept", [0, 700])
def test_a_damaged_history_is_found(cut: Path, kept: int) -> None:
    path = cut / "history.jsonl"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"history\.jsonl: damaged .*no older checkpoint is whole: delete"):
        train(tiny_model(), CountingBatches(), small_training(), cut)


def test_a_history_damaged_at_its_end_costs_the_steps_since(cut: Path, tmp_path: Path) -> None:
    path = cut / "history.jsonl"
    path.write_bytes(path.read_bytes()[:-2])
    resumed = train(tiny_model(), CountingBatches(), small_training(), cut)
    assert resumed.history == train(tiny_model(), CountingBatches(), small_training(), tmp_path / "whole").history


def test_another_run_begins_its_own_history(cut: Path) -> None:
    other = train(tiny_model(), CountingBatches(), small_training(seed=1), cut)
    assert [row["step"] for row in other.history] == [1, 2, 3, 4, 5, 6]
    first = json.loads((cut / "history.jsonl").read_text().splitlines()[0])
    assert first["steps"] == other.history[0]


def test_a_journal_waits_for_a_disk_that_cannot_take_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "folder" / "journal.jsonl", writes=True)
    journal.append({"a": 1})
    journal.try_to_flush()
    with pytest.raises(OSError, match="No such file"):
        journal.mark()
    (tmp_path / "folder").mkdir()
    journal.append({"a": 2})
    mark = journal.mark()
    journal.append({"a": 3})
    assert journal.contents() == b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'
    other = Journal(journal.path, writes=True)
    assert other.cut(mark) == [{"a": 1}, {"a": 2}]
    other.append({"a": 4})
    assert other.contents() == b'{"a": 1}\n{"a": 2}\n{"a": 4}\n'


def test_evaluations_are_at_the_beginning_the_end_and_in_between() -> None:
    assert [done for done in range(1, 8) if RunLength(7, 3).evaluates(done)] == [3, 6, 7]
    assert [done for done in range(1, 8) if RunLength(7).evaluates(done)] == [7]


# -- traces ----------------------------------------------------------------------------------------------------------


def test_a_trace_of_some_steps_lies_with_the_log_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train(tiny_model(), CountingBatches(), small_training(), tmp_path / "plain").history
    staging = Staging(tmp_path / "staging")
    staging.prepare("code")
    monkeypatch.setenv(events.ENVIRONMENT_KEY, str(staging.events))
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"profile": [2, 3]}))
    assert train(tiny_model(), CountingBatches(), small_training(), staging.artifact / ".work" / "s").history == plain
    (path,) = staging.folder.glob("trace-*")
    assert path.name == "trace-steps-2-3-rank-0.json.gz"
    names = [event.get("name", "") for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]]
    assert names.count("Optimizer.step#AdamW.step") == 2
    notes = [json.loads(line) for line in staging.events.read_text().splitlines()]
    assert [line["text"] for line in notes if line["event"] == "note"] == [f"a trace of the steps 2 to 3 is in {path}"]


def test_a_run_that_ends_within_its_trace_leaves_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_KEY, json.dumps({"profile": [2, 100]}))
    with pytest.raises(StoppedError):
        train(tiny_model(), StoppingBatches(4), small_training(), tmp_path / "snapshots")
    assert (tmp_path / "trace-steps-2-100-rank-0.json.gz").stat().st_size > 0


@pytest.mark.parametrize("steps", [[3], [0, 4], [5, 4], [1, 2, 3]])
def test_steps_that_cannot_be_traced_are_refused(steps: list[int]) -> None:
    with pytest.raises(ValidationError, match=r"profile"):
        Execution.model_validate({"profile": steps})


# -- reading ahead ---------------------------------------------------------------------------------------------------


class _Seen(CountingBatches):
    """Says which steps were read, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.threads: set[int] = set()

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """As the base class; there is no step 7."""
        self.steps.append(step)
        self.threads.add(threading.get_ident())
        if step == 7:
            raise ValueError("no step 7")
        return super().batch(step, rank, world)


def test_reading_ahead_changes_nothing_and_ends_with_the_run() -> None:
    seen = _Seen()
    ahead = ReadAhead(seen, 6, ahead=2)
    for step in range(2, 6):
        assert torch.equal(ahead.batch(step, 1, 2).tokens_BT, CountingBatches().batch(step, 1, 2).tokens_BT)
    assert seen.steps == [2, 3, 4, 5]
    assert threading.get_ident() not in seen.threads


def test_what_goes_wrong_ahead_is_told_where_it_is_wanted() -> None:
    ahead = ReadAhead(_Seen(), 20)
    ahead.batch(5, 0, 1)
    ahead.batch(6, 0, 1)
    with pytest.raises(ValueError, match="no step 7"):
        ahead.batch(7, 0, 1)
