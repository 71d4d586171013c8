"""The loop that all training goes through: pretraining, continued pretraining, SFT, DPO and GRPO.

A `Task` is what is trained and on what: it computes steps and evaluations and knows nothing of the loop. The `Trainer`
runs it, keeps the history, takes checkpoints and leaves in order; a `Hook` does something beside the steps
(`model.training.hooks`).

A run can be killed at any moment: it resumes from its last snapshot and, in the same layout, computes the same bits.
SIGTERM makes it save and leave (exit status 143).

A step leaves its numbers on the device; they are read when they are logged, all in one copy, and nothing else waits for
the device. On a GPU that is every `LOG_EVERY` steps, and before whatever needs them: an evaluation, a snapshot, the
end.
"""

from __future__ import annotations

import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from infra import events
from infra.execution import execution
from infra.signals import sigterm_event
from model.facts.training import LayoutFacts
from model.training.engine import peak_memory_bytes
from model.training.hooks import Hook, profilers
from model.training.journal import History, Journal, Row
from model.training.snapshots import Snapshots, Trainee

__all__ = [
    "RunFacts",
    "RunLength",
    "StepRecord",
    "StepResult",
    "Task",
    "TaskState",
    "Trainer",
]

LOG_EVERY = 10
"""Steps between two readings of a GPU's numbers, where the task does not need each at once."""


@dataclass(frozen=True)
class StepResult:
    """What one step leaves, still on the device where it was computed there."""

    numbers: Mapping[str, float | Tensor]
    """Single numbers, by name."""
    tokens: int = 0
    """Seen by all ranks."""
    counts_LE: Tensor | None = None
    """Tokens of all ranks per layer with experts and expert."""
    speeds: Row = field(default_factory=dict)
    """How fast the step was: told, and no part of the history."""


@dataclass(frozen=True)
class StepRecord:
    """One step whose numbers have been read."""

    step: int
    """Of the step, from 0."""
    numbers: Mapping[str, float]
    counts_LE: Tensor | None
    """On the CPU."""


class TaskState(BaseModel):
    """What a snapshot keeps of a task beside the engine and the history."""

    skipped: list[int] = Field(default_factory=list)
    """Numbers, from 1, of the steps that were thrown away."""
    loads: list[list[list[float]]] = Field(default_factory=list)
    """Tokens of each expert in the last steps, by layer."""


class LoopState(BaseModel):
    """What a snapshot keeps of the loop."""

    tokens: int
    task: TaskState


class Task(ABC):
    """What a stage trains: its steps and its evaluations. Every rank has one and calls it alike."""

    phase: str
    """What the steps are called for a person who watches."""
    history: History
    """Of the run, from `begin` on."""
    logs_each_step = True
    """Whether the numbers of a step are wanted before the next begins."""

    @abstractmethod
    def step(self, step: int) -> StepResult:
        """Compute a step (from 0)."""

    @abstractmethod
    def record(self, record: StepRecord) -> Row:
        """The row of the history that a step's numbers make.

        Raises:
            UserError: training should not go on.
        """

    def evaluate(self, done: int) -> Row:
        """Held-out measures after `done` steps; empty where there are none."""
        return {}

    def state(self) -> TaskState:
        """What a snapshot keeps of the task beside the engine and the history."""
        return TaskState()

    def restore(self, state: TaskState) -> None:
        """Take up what `state` gave."""
        assert state == TaskState(), "nobody takes this up"

    def begin(self, history: History) -> None:
        """The first step of this process comes next; `history` is that of the run, and grows with it."""
        self.history = history


class Ranks(Trainee, Protocol):
    """What the trainer asks of an engine, besides what its checkpoints are made of."""

    def all_reduce_host(self, values: Sequence[float]) -> list[float]: ...


@dataclass(frozen=True)
class RunLength:
    """How long a run is, and when it is evaluated: before the first step and after the last besides."""

    steps: int
    validate_every: int = 0
    """0: only then."""

    def evaluates(self, done: int) -> bool:
        """Whether an evaluation follows `done` steps."""
        return done == self.steps or bool(self.validate_every and done % self.validate_every == 0)


@dataclass(frozen=True)
class RunFacts:
    """What a finished run has to say of itself; times are of this process."""

    layout: LayoutFacts
    tokens: int
    """Seen by all ranks, resumed steps included."""
    seconds: float
    tokens_per_second: float
    peak_memory: int
    checkpoints: int
    """Written by this process."""
    checkpoint_seconds: float
    """How long they held training up."""


class Trainer:
    """Runs a task from its last snapshot, or from the beginning, to its end.

    Args:
        folder: for snapshots and history; one training at a time.
        fingerprint: of all that determines the result; snapshots of another are ignored.
        journals: what the task writes besides, by name.
    """

    def __init__(
        self,
        task: Task,
        engine: Ranks,
        length: RunLength,
        folder: Path,
        fingerprint: str,
        *,
        hooks: Sequence[Hook] = (),
        journals: Mapping[str, Journal] | None = None,
    ) -> None:
        self.task, self.engine, self.length = task, engine, length
        self._is_first = engine.rank == 0
        self._hooks = (*profilers(engine.rank, folder.parent), *hooks)
        self._policy = execution().checkpoints
        self.history = History(Journal(folder / "history.jsonl", writes=self._is_first))
        self._snapshots = Snapshots(folder, engine, fingerprint, {"history": self.history.journal, **(journals or {})})
        self._log_every = 1 if task.logs_each_step or engine.device.type == "cpu" else LOG_EVERY
        self._unread: list[tuple[int, StepResult]] = []
        self._tokens, self._new_tokens, self._seconds, self._since = 0, 0, 0.0, 0.0
        self._saved = 0.0
        self._stalls: list[float] = []

    def run(self) -> RunFacts:
        """All steps that are left; every rank calls it.

        Raises:
            UserError: training should not go on; snapshots that cannot be used.
            SystemExit: 143, saved after SIGTERM.
        """
        try:
            first = self._restore()
            with sigterm_event() as terminated:
                return self._run(first, terminated)
        finally:
            for hook in self._hooks:
                hook.close()
            self._snapshots.close()

    def _restore(self) -> int:
        restored = self._snapshots.restore()
        if restored is None:
            return 0
        self.history.take(restored.lines["history"])
        state = LoopState.model_validate(restored.state)
        self._tokens = state.tokens
        self.task.restore(state.task)
        return restored.step

    def _run(self, first: int, terminated: threading.Event) -> RunFacts:
        begun = self._saved = time.monotonic()
        if self._is_first:
            events.begin(self.task.phase, self.length.steps, "steps", done=first)
        self.task.begin(self.history)
        if not self.history.evaluations:
            self._evaluate(0)
        self._since = time.monotonic()
        for step in range(first, self.length.steps):
            done = step + 1
            for hook in self._hooks:
                hook.step_begins(step)
            self._unread.append((step, self.task.step(step)))
            if self._is_first:
                events.advance()
            if done % self._log_every == 0:
                self._log()
            if self.length.evaluates(done):
                self._log()
                self._evaluate(done)
            for hook in self._hooks:
                hook.step_ended(done)
            self._save_when_due(done, terminated)
        events.flush()
        return self._facts(time.monotonic() - begun)

    # -- numbers -----------------------------------------------------------------------------------------------------

    def _log(self) -> None:
        """Read the numbers of the steps since the last time, in one copy, and tell them."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        records = _read(unread)
        elapsed = time.monotonic() - self._since
        tokens = sum(result.tokens for _, result in unread)
        self._tokens += tokens
        self._new_tokens += tokens
        self._seconds += elapsed
        for record, (_, result) in zip(records, unread, strict=True):
            row = self.task.record(record)
            self.history.add_step(row)
            if self._is_first:
                speeds = {"tokens_per_second": tokens / elapsed} if tokens else {}
                _tell(row, record.step + 1)
                events.metrics({**speeds, "memory_bytes": peak_memory_bytes(), **result.speeds}, record.step + 1)
        self._since = time.monotonic()

    def _evaluate(self, done: int) -> None:
        values = self.task.evaluate(done)
        if values:
            row = {"step": float(done), **values}
            self.history.add_evaluation(row)
            if self._is_first:
                _tell(row, done, "validation_")
        self._since = time.monotonic()

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def _save_when_due(self, done: int, terminated: threading.Event) -> None:
        """A snapshot where one is due or SIGTERM has come.

        One clock and one signal decide for all ranks, so that they save the same step. The clock is monotonic.
        """
        is_due = time.monotonic() - self._saved >= self._policy.seconds and done < self.length.steps
        mine = (terminated.is_set(), is_due and self._is_first, self._snapshots.is_writing)
        is_ending, is_due, is_writing = (value > 0 for value in self.engine.all_reduce_host([*map(float, mine)]))
        if self._snapshots.pending and not is_writing:
            self._snapshots.finish()
        if is_ending or (is_due and not is_writing):
            self._save(done, wait=is_ending or not self._policy.asynchronous)
        if is_ending:
            if self._is_first:
                events.note(f"stopped by SIGTERM after step {done}; the next run goes on from there")
            raise SystemExit(128 + signal.SIGTERM)

    def _save(self, done: int, *, wait: bool) -> None:
        self._log()
        begun = time.monotonic()
        self._snapshots.begin(done, LoopState(tokens=self._tokens, task=self.task.state()).model_dump())
        if wait:
            self._snapshots.finish()
        self._saved = self._since = time.monotonic()
        self._stalls.append(self._saved - begun)

    def _facts(self, seconds: float) -> RunFacts:
        return RunFacts(
            layout=self.engine.layout,
            tokens=self._tokens,
            seconds=seconds,
            tokens_per_second=self._new_tokens / self._seconds if self._seconds else 0.0,
            peak_memory=peak_memory_bytes(),
            checkpoints=len(self._stalls),
            checkpoint_seconds=sum(self._stalls),
        )


def _read(unread: Sequence[tuple[int, StepResult]]) -> list[StepRecord]:
    """The numbers of some steps: one copy from the device, and so one wait for it."""
    parts = [value.detach() for _, result in unread for value in _tensors(result)]
    flat = torch.cat([value.double().flatten() for value in parts]).cpu() if parts else torch.empty(0)
    found = iter(flat.split([value.numel() for value in parts]))
    records = []
    for step, result in unread:
        numbers = {
            name: next(found).item() if isinstance(value, Tensor) else value for name, value in result.numbers.items()
        }
        shape = None if result.counts_LE is None else result.counts_LE.shape
        records.append(StepRecord(step, numbers, None if shape is None else next(found).view(shape)))
    return records


def _tensors(result: StepResult) -> list[Tensor]:
    found = [value for value in result.numbers.values() if isinstance(value, Tensor)]
    return found if result.counts_LE is None else [*found, result.counts_LE]


def _tell(row: Row, step: int, prefix: str = "") -> None:
    events.metrics({f"{prefix}{name}": value for name, value in row.items() if name != "step"}, step)
