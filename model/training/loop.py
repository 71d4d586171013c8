"""The training loop of pretraining and supervised fine-tuning, on any number of ranks.

The loss is the sum of token losses over the tokens of the *global* batch, so value and gradient do not depend on how
rows are shared out among ranks and micro-batches. A token is learned when it belongs to the same document as the one
before it and its loss mask is set.

A run can be killed at any moment: it goes on from its last snapshot and, in the same layout, computes the same bits.
SIGTERM makes it save and leave (exit status 143). A loss that is no number or has jumped is recorded and its step
skipped, or the run stopped, as configured.

Shapes: B rows of this rank, T tokens, V vocabulary, L layers with experts, E experts.
"""

from __future__ import annotations

import hashlib
import math
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from infra import events
from infra.errors import UserError
from infra.execution import execution
from model.architecture.transformer import Transformer
from model.sections import BadStep, TrainingConfig
from model.training.balance import load_statistics
from model.training.engine import Engine, make_engine, peak_memory_bytes
from model.training.prediction import loss_tokens_at, prediction_weight, targets_at
from model.training.schedule import learning_rate
from model.training.snapshots import Snapshots

__all__ = ["BatchSource", "TrainingBatch", "TrainingResult", "Validation", "sigterm_event", "train"]

RECENT = 20
"""Losses whose median a new one is compared with."""
LEAST_JUMP = 0.5
"""Nats by which a spike is above that median: what is learnt to the last digit varies by large factors."""


@dataclass(frozen=True)
class TrainingBatch:
    """One rank's rows of a global batch."""

    tokens_BT: Tensor
    """int64"""
    documents_BT: Tensor | None = None
    """int64: number of each token's document within its row. None: every row is one document."""
    loss_mask_BT: Tensor | None = None
    """True for tokens to be learned. None: all."""

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch on `device`."""
        documents_BT = None if self.documents_BT is None else self.documents_BT.to(device)
        loss_mask_BT = None if self.loss_mask_BT is None else self.loss_mask_BT.to(device)
        return TrainingBatch(self.tokens_BT.to(device), documents_BT, loss_mask_BT)

    def split(self, parts: int) -> list[TrainingBatch]:
        """Cut the rows into micro-batches."""
        columns = [
            value.chunk(parts) if value is not None else [None] * parts
            for value in (self.tokens_BT, self.documents_BT, self.loss_mask_BT)
        ]
        return [TrainingBatch(*part) for part in zip(*columns, strict=True)]

    def loss_tokens_BT(self) -> Tensor:
        """True [B, T - 1] where the token after position t is learned from it."""
        return loss_tokens_at(0, self.tokens_BT, self.documents_BT, self.loss_mask_BT)


class BatchSource(Protocol):
    """Where batches come from: a pure function of the step.

    Two attributes are optional: ``steps``, after which there is no more, and ``epoch_steps``, after which the data come
    round again.
    """

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """The rows ``rank::world`` of the global batch of `step`."""


@dataclass(frozen=True)
class Validation:
    """A fixed set of held-out batches, and how many bytes of text each token stands for."""

    source: BatchSource
    batches: int
    bytes_V: Tensor | None = None


@dataclass
class TrainingResult:
    """What a finished run has to say. Counts and losses are global; times are of this process."""

    model: Transformer | None
    """The trained model on rank 0, None elsewhere."""
    history: list[dict[str, float]]
    """One row per step: step, loss, learning_rate, grad_norm and, with experts, expert_load_*."""
    validation: list[dict[str, float]]
    """One row per validation: step, loss and, where bytes are known, bits_per_byte."""
    layout: dict[str, int]
    tokens: int = 0
    """Tokens seen, resumed steps included."""
    skipped: list[int] = field(default_factory=list)
    """Steps thrown away."""
    expert_load: dict[str, dict[str, float]] = field(default_factory=dict)
    """Per layer: min, max (shares of an even load) and cv over the last steps."""
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    peak_memory: int = 0
    checkpoints: int = 0
    """Checkpoints written by this process."""
    checkpoint_seconds: float = 0.0
    """How long they held training up."""

    def metrics(self) -> dict[str, Any]:
        """The numbers that a stage reports."""
        found: dict[str, Any] = {
            "steps": len(self.history),
            "tokens": self.tokens,
            "train_loss_first": self.history[0]["loss"],
            "train_loss_last": statistics.fmean(row["loss"] for row in self.history[-10:]),
            "skipped_steps": len(self.skipped),
            "seconds": round(self.seconds, 2),
            "tokens_per_second": round(self.tokens_per_second, 1),
            "peak_memory_bytes": self.peak_memory,
            "checkpoints": self.checkpoints,
            "checkpoint_seconds": round(self.checkpoint_seconds, 3),
            "layout": self.layout,
        }
        if self.validation:
            for place, row in (("before", self.validation[0]), ("after", self.validation[-1])):
                found |= {f"{name}_{place}": value for name, value in row.items() if name != "step"}
        if self.expert_load:
            found["expert_load"] = self.expert_load
        return found


def train(
    model: Transformer,
    source: BatchSource,
    config: TrainingConfig,
    work_dir: Path,
    *,
    validation: Validation | None = None,
    evaluate: Callable[[Engine, int], dict[str, float]] | None = None,
    identity: str = "",
    phase: str = "train",
) -> TrainingResult:
    """Train `model` in place for ``config.steps`` steps; every rank calls it with the same arguments.

    Args:
        model: on the CPU; the same weights on every rank.
        work_dir: where snapshots go; a killed run of the same config and `identity` found there is continued.
        validation: measured before the first step, every ``validate_every`` steps, and at the end.
        evaluate: further metrics at the same moments: called on every rank with the engine and the finished steps.
        identity: of what else determines the result (data, initial weights), for telling runs apart.

    Raises:
        UserError: the loss went bad under ``bad_step: stop``, or for too long; a snapshot of another layout.
        ValueError: batch sizes that do not divide.
        SystemExit: 143, saved after SIGTERM.
    """
    micro = config.micro_batch or config.batch_size
    if config.batch_size % micro:
        raise ValueError(f"batch_size {config.batch_size} is not a multiple of micro_batch {micro}")
    depths = model.config.num_nextn_predict_layers
    engine = make_engine(model, config)
    if micro % engine.world:
        raise ValueError(f"micro_batch {micro} does not divide among {engine.world} ranks")
    if (there := getattr(source, "steps", None)) is not None and there < config.steps:
        raise UserError(f"{config.steps} steps, but the data end after {there}; lower steps, or add data")
    run = _Run(engine, source, config, config.batch_size // micro, depths, validation, evaluate)
    fingerprint = hashlib.sha256((config.model_dump_json() + identity).encode()).hexdigest()
    snapshots = Snapshots(work_dir, engine, fingerprint)
    restored = snapshots.restore()
    first = 0
    if restored is not None:
        first, state = restored
        run.set_state(state)
    if engine.rank == 0:
        events.begin(phase, config.steps, "steps", done=first)
        if (once := getattr(source, "epoch_steps", None)) and config.steps > once and not first:
            events.note(f"{config.steps} steps read the data {config.steps / once:.1f} times over")
    try:
        with sigterm_event() as terminated:
            run.loop(first, snapshots, terminated)
        return run.result()
    finally:
        snapshots.close()


@contextmanager
def sigterm_event() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, while the block runs (in a main thread; elsewhere signals are not ours to take)."""
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        terminated.set()

    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Run:
    """The state of one call of `train`."""

    def __init__(
        self,
        engine: Engine,
        source: BatchSource,
        config: TrainingConfig,
        accumulation: int,
        depths: int,
        validation: Validation | None,
        evaluate: Callable[[Engine, int], dict[str, float]] | None,
    ) -> None:
        self.engine, self.source, self.config = engine, source, config
        self.accumulation, self.validation, self.evaluate = accumulation, validation, evaluate
        self.depths = depths
        self.history: list[dict[str, float]] = []
        self.validated: list[dict[str, float]] = []
        self.skipped: list[int] = []
        self.tokens = 0
        self.loads: list[list[list[float]]] = []
        self.stalls: list[float] = []
        """Seconds that each checkpoint of this process held training up."""
        self.seconds, self.new_tokens, self.evaluating = 0.0, 0, 0.0

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps beside the engine."""
        return {
            "history": self.history,
            "validated": self.validated,
            "skipped": self.skipped,
            "tokens": self.tokens,
            "loads": self.loads,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up a snapshot's state."""
        self.history, self.validated = state["history"], state["validated"]
        self.skipped, self.tokens, self.loads = state["skipped"], state["tokens"], state["loads"]

    def loop(self, first: int, snapshots: Snapshots, terminated: threading.Event) -> None:
        """Steps `first` to the end."""
        config, engine, policy = self.config, self.engine, execution().checkpoints
        begun = saved = time.monotonic()
        if not self.validated:
            self.validate(0)
        for step in range(first, config.steps):
            started, before = time.monotonic(), self.tokens
            row = self.step(step)
            elapsed = time.monotonic() - started
            self.seconds += elapsed
            self.new_tokens += self.tokens - before
            if engine.rank == 0:
                speed = (self.tokens - before) / elapsed
                events.metrics({name: value for name, value in row.items() if name != "step"}, step + 1)
                events.metrics({"tokens_per_second": speed, "memory_bytes": peak_memory_bytes()}, step + 1)
                events.advance()
            done = step + 1
            if done == config.steps or (config.validate_every and done % config.validate_every == 0):
                self.validate(done)
            # One clock and one signal decide for all ranks, so that they save the same step. The clock is monotonic.
            due = time.monotonic() - saved >= policy.seconds and done < config.steps
            mine = [terminated.is_set(), due and engine.rank == 0, snapshots.is_writing]
            wishes = engine.total(torch.tensor(mine, device=engine.device).int()).tolist()
            if snapshots.pending and not wishes[2]:
                snapshots.finish()
            if wishes[0] or (wishes[1] and not wishes[2]):
                stalled = time.monotonic()
                snapshots.begin(done, self.state())
                if wishes[0] or not policy.asynchronous:
                    snapshots.finish()
                saved = time.monotonic()
                self.stalls.append(saved - stalled)
            if wishes[0]:
                if engine.rank == 0:
                    events.note(f"stopped by SIGTERM after step {done}; the next run goes on from there")
                raise SystemExit(128 + signal.SIGTERM)
        self.wall = time.monotonic() - begun
        events.flush()

    def step(self, step: int) -> dict[str, float]:
        """One optimizer step; its row of the history."""
        config, engine = self.config, self.engine
        batch = self.source.batch(step, engine.rank, engine.world)
        known = engine.shapes["model.embed_tokens.weight"][0]
        if (token := int(batch.tokens_BT.max())) >= known:
            raise UserError(f"step {step + 1}: token {token} in the data, the model knows {known}: other tokenizer?")
        self.tokens += batch.tokens_BT.numel() * engine.world
        count = engine.total(batch.loss_tokens_BT().sum().double().to(engine.device)).item()
        rate = learning_rate(config, step)
        loss, further, is_good, norm = 0.0, 0.0, count > 0, 0.0
        parts = batch.split(self.accumulation)
        share: Tensor | None = None
        for number, part in enumerate(parts):
            engine.watch.begin(len(part.tokens_BT))
            share, deeper = (value / max(count, 1) for value in self.token_losses(part))
            # The loss is known to all ranks before its gradient is taken, so all throw the step away or none does.
            loss += engine.total(share.detach().double()).item()
            is_good = is_good and self.is_good(loss * len(parts) / (number + 1))
            balance = engine.watch.take_loss()
            if self.depths:
                further += engine.total(deeper.detach().double()).item()
                share = share + prediction_weight(config, step) * deeper
            if is_good:
                share = share + balance / (engine.world * len(parts))
                engine.backward(share, last=number + 1 == len(parts))
        counts_LE = engine.watch.counts()
        if counts_LE is not None:
            counts_LE = engine.total(counts_LE.clone())
        if is_good:
            norm = engine.step(rate)
            is_good = math.isfinite(norm)
            if not is_good:
                self.bad(step, f"a gradient that is not a number (loss {loss:.4g})")
                norm = 0.0
        else:
            engine.discard(share)
            self.bad(step, f"loss {loss:.4g}" if count else "nothing to learn")
        engine.watch.finish_step(counts_LE if is_good else None, config.bias_update_speed)
        row: dict[str, float] = {"step": step + 1, "loss": loss, "learning_rate": rate, "grad_norm": norm}
        if self.depths:
            row["prediction_loss"] = further
        if counts_LE is not None:
            spread = [load_statistics(counts_E) for counts_E in counts_LE.cpu()]
            for layer, load in zip(engine.watch.layers, spread, strict=True):
                row |= {f"expert_load_{name}/layer_{layer}": value for name, value in load.items()}
            self.loads = [*self.loads, counts_LE.cpu().tolist()][-RECENT:]
        self.history.append(row)
        return row

    def token_losses(self, part: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Sum of the losses of this rank's learned tokens of one micro-batch, and that of multi-token prediction."""
        part = part.to(self.engine.device)
        documents = part.documents_BT if self.config.document_mask else None
        depths = self.depths if torch.is_grad_enabled() else 0
        targets = [
            targets_at(depth, part.tokens_BT, part.documents_BT, part.loss_mask_BT) for depth in range(depths + 1)
        ]
        loss, *deeper = self.engine.losses(part.tokens_BT, documents, targets)
        return loss, torch.stack(deeper).mean() if deeper else torch.zeros_like(loss)

    def is_good(self, loss: float) -> bool:
        """Whether a loss is a number, and no spike against the recent ones."""
        recent = [row["loss"] for row in self.history[-RECENT:] if math.isfinite(row["loss"])]
        usual = statistics.median(recent) if len(recent) == RECENT else math.inf
        is_spike = loss > max(self.config.spike_factor * usual, usual + LEAST_JUMP)
        return math.isfinite(loss) and not is_spike

    def bad(self, step: int, why: str) -> None:
        """Record a step thrown away; UserError when the run should not go on."""
        self.skipped.append(step + 1)
        what = f"step {step + 1}: {why}"
        if self.config.bad_step is BadStep.STOP:
            raise UserError(f"{what}: not a number or a spike; lower learning_rate, or set bad_step to skip")
        if self.skipped[-10:] == list(range(step - 8, step + 2)):
            raise UserError(f"{what}: the tenth bad step in a row; lower learning_rate or look at the data")
        if self.engine.rank == 0:
            events.note(f"{what}, skipped")

    @torch.no_grad()
    def validate(self, done: int) -> None:
        """Loss and bits per byte on the held-out batches, after `done` steps."""
        started = time.monotonic()
        engine, row = self.engine, {"step": float(done)}
        if self.validation is not None:
            sums = torch.zeros(3, dtype=torch.float64, device=engine.device)
            for number in range(self.validation.batches):
                batch = self.validation.source.batch(number, engine.rank, engine.world)
                for part in batch.split(self.accumulation):
                    loss_tokens_BT = part.loss_tokens_BT()
                    sums[0] += self.token_losses(part)[0].double()
                    sums[1] += loss_tokens_BT.sum()
                    if self.validation.bytes_V is not None:
                        sums[2] += self.validation.bytes_V[part.tokens_BT[:, 1:][loss_tokens_BT]].sum()
            loss, tokens, size = engine.total(sums).tolist()
            row["loss"] = loss / max(tokens, 1)
            if size:
                row["bits_per_byte"] = loss / size / math.log(2)
        if self.evaluate is not None:
            row |= self.evaluate(engine, done)
        if len(row) > 1:
            self.validated.append(row)
            if engine.rank == 0:
                events.metrics({f"validation_{name}": value for name, value in row.items() if name != "step"}, done)
        self.evaluating += time.monotonic() - started

    def result(self) -> TrainingResult:
        """Gather what the stage wants."""
        layers = self.engine.watch.layers
        recent_LE = torch.tensor(self.loads).sum(0).unbind(0) if self.loads else ()
        return TrainingResult(
            model=self.engine.full_model(),
            history=self.history,
            validation=self.validated,
            layout=self.engine.layout,
            tokens=self.tokens,
            skipped=self.skipped,
            expert_load={str(n): load_statistics(c) for n, c in zip(layers, recent_LE, strict=True)},
            seconds=self.wall,
            tokens_per_second=self.new_tokens / self.seconds if self.seconds else 0.0,
            peak_memory=peak_memory_bytes(),
            checkpoints=len(self.stalls),
            checkpoint_seconds=sum(self.stalls),
        )
