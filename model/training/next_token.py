"""Learning the next token: the task of pretraining, continued pretraining and supervised fine-tuning.

The loss is the sum of token losses over the tokens of the *global* batch, so value and gradient do not depend on how
rows are shared out among ranks and micro-batches. A token is learned when it belongs to the same document as the one
before it and its loss mask is set. With layers for it, tokens further on are predicted too
(`model.training.prediction`). A loss that is no number or has jumped is recorded and its step skipped, or the run
stopped, as configured (`model.training.guard`).

Shapes: B rows of this rank, T tokens, V vocabulary, L layers with experts, E experts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from infra import events
from infra.errors import UserError
from model.architecture.transformer import Transformer
from model.architecture.varlen import told
from model.facts.training import ExpertLoad, TrainingMetrics, before_and_after
from model.sections import BadStep, TrainingConfig
from model.training.balance import ExpertLoads
from model.training.batches import BatchSource, TrainingBatch
from model.training.engine import Engine, end_step, make_engine
from model.training.guard import BadSteps, SpikeGuard, poisoned
from model.training.journal import History, Row
from model.training.lineage import lineage
from model.training.prediction import prediction_weight
from model.training.replay import Replay
from model.training.schedule import learning_rate
from model.training.text_loss import text_losses
from model.training.trainer import RunFacts, RunLength, StepRecord, StepResult, Task, TaskState, Trainer
from pipeline.tokens.passes import ADVICE

__all__ = ["NextToken", "TrainingResult", "Validation", "train"]

Evaluate = Callable[[Engine, int], Row]
"""Further held-out measures: called on every rank with the engine and the finished steps."""


@dataclass(frozen=True)
class Validation:
    """A fixed set of held-out batches, and how many bytes of text each token stands for."""

    source: BatchSource
    batches: int
    bytes_V: Tensor | None = None


class NextToken(Task):
    """Steps and evaluations of next-token prediction."""

    logs_each_step = False

    def __init__(
        self,
        engine: Engine,
        source: BatchSource,
        config: TrainingConfig,
        depths: int,
        validation: Validation | None,
        evaluate: Evaluate | None,
        phase: str,
        replay: Replay,
    ) -> None:
        self.engine, self.source, self.config = engine, source, config
        self.phase, self.depths, self.replay = phase, depths, replay
        self.validation, self.measure = validation, evaluate
        self.accumulation = config.batch_size // (config.micro_batch or config.batch_size)
        self.guard = SpikeGuard(config.spike_factor, engine.device)
        is_stop = config.bad_step is BadStep.STOP
        remedy = "lower learning_rate, " + ("or set bad_step to skip" if is_stop else "or look at the data")
        self.bad = BadSteps(config.bad_step, remedy, tells=engine.rank == 0)
        self.loads = ExpertLoads(engine.watch.layers)

    def step(self, step: int) -> StepResult:
        """One optimizer step. Whether its loss is good is known on the device alone."""
        config, engine = self.config, self.engine
        batch = self._batch(step)
        (count,) = engine.all_reduce_host([float(batch.loss_tokens_BT().sum())])
        loss = mtp_loss = torch.zeros((), dtype=torch.float64, device=engine.device)
        is_good = torch.tensor(count > 0, device=engine.device)
        replayed = self.replay.learn(engine, step, lambda part: self._weighed(part, step))
        parts = batch.split(self.accumulation)
        for number, part in enumerate(parts):
            engine.watch.begin(len(part.tokens_BT))
            share, mtp_share = (value / max(count, 1) for value in self._token_losses(part))
            loss = loss + engine.all_reduce_sum(share.detach().double())
            is_good = is_good & self.guard.judge(loss * len(parts) / (number + 1))
            balance = engine.watch.take_loss()
            if self.depths:
                mtp_loss = mtp_loss + engine.all_reduce_sum(mtp_share.detach().double())
                share = share + prediction_weight(config, step) * mtp_share
            share = share + balance / (engine.world * len(parts))
            is_last = number + 1 == len(parts)
            engine.backward(poisoned(share, is_good) if is_last else share, last=is_last)
        norm, _, counts_LE = end_step(engine, learning_rate(config, step), config.bias_update_speed, is_good)
        self.guard.add(loss)
        numbers: dict[str, float | Tensor] = {"loss": loss, "grad_norm": norm, "is_good": is_good, "loss_tokens": count}
        if self.depths:
            numbers["prediction_loss"] = mtp_loss
        tokens = batch.tokens_BT.numel() * engine.world + self.replay.tokens
        return StepResult(numbers | replayed, tokens, counts_LE)

    def record(self, record: StepRecord) -> Row:
        """Loss, learning rate, gradient norm and, where there are any, MTP loss and expert loads."""
        numbers, step = record.numbers, record.step
        loss, norm = numbers["loss"], numbers["grad_norm"]
        if not numbers["is_good"]:
            self.bad.add(step, f"loss {loss:.4g}" if numbers["loss_tokens"] else "nothing to learn")
        elif not math.isfinite(norm):
            self.bad.add(step, f"a gradient that is not a number (loss {loss:.4g})")
        moved = bool(numbers["is_good"]) and math.isfinite(norm)
        row: dict[str, float] = {
            "step": step + 1,
            "loss": loss,
            "learning_rate": learning_rate(self.config, step),
            "grad_norm": norm if moved else 0.0,
        }
        if self.depths:
            row["prediction_loss"] = numbers["prediction_loss"]
        row |= {name: numbers[name] for name in self.replay.measures}
        return row | self.loads.add(record.counts_LE)

    def evaluate(self, done: int) -> Row:
        """Loss and bits per byte on the held-out batches, and what the stage measures besides."""
        found: dict[str, float] = {}
        if self.validation is not None:
            held_out = self._held_out(self.validation)
            masks = self.config.document_mask
            (text,) = text_losses(self.engine, [held_out], self.validation.bytes_V, document_mask=masks)
            found["loss"] = text.per_token
            if text.bytes:
                found["bits_per_byte"] = text.bits_per_byte
        if self.measure is not None:
            found |= self.measure(self.engine, done)
        return found

    def _held_out(self, validation: Validation) -> Iterator[TrainingBatch]:
        """This rank's rows, in micro-batches."""
        for number in range(validation.batches):
            yield from validation.source.batch(number, self.engine.rank, self.engine.world).split(self.accumulation)

    def state(self) -> TaskState:
        """Steps thrown away, and the loads of the last ones."""
        return TaskState(skipped=self.bad.steps, loads=self.loads.counts)

    def restore(self, state: TaskState) -> None:
        """Take up what `state` gave."""
        self.bad.steps, self.loads.counts = state.skipped, state.loads

    def begin(self, history: History) -> None:
        """Judge losses by those so far."""
        super().begin(history)
        self.guard.restore([row["loss"] for row in history.steps])
        if not history.steps and self.engine.rank == 0:
            self._tell_repeats()

    def _tell_repeats(self) -> None:
        """Say how often text is read, where that is more than once, or by its weight more often than serves."""
        once, steps = getattr(self.source, "epoch_steps", None), self.config.steps
        if told := getattr(self.source, "repeated", ""):
            events.note(f"{told}: {ADVICE}")
        elif once and steps > once:
            events.note(f"{steps} steps read the data {steps / once:.1f} times over")

    def _batch(self, step: int) -> TrainingBatch:
        batch = self.source.batch(step, self.engine.rank, self.engine.world)
        known = self.engine.shapes["model.embed_tokens.weight"][0]
        if (token := int(batch.tokens_BT.max())) >= known:
            raise UserError(f"step {step + 1}: token {token} in the data, the model knows {known}: other tokenizer?")
        return batch

    def _weighed(self, part: TrainingBatch, step: int) -> Tensor:
        """The summed loss of a micro-batch, that of multi-token prediction included."""
        loss, mtp_loss = self._token_losses(part)
        return loss + prediction_weight(self.config, step) * mtp_loss if self.depths else loss

    def _token_losses(self, part: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Sum of the losses of this rank's learned tokens of one micro-batch, and that of multi-token prediction."""
        loss, *further = self.engine.losses(part, self.depths, document_mask=self.config.document_mask)
        return loss, torch.stack(further).mean() if further else torch.zeros_like(loss)


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run has to say. Counts and losses are global."""

    model: Transformer | None
    """The trained model on rank 0, None elsewhere."""
    history: Sequence[Row]
    """One row per step: step, loss, learning_rate, grad_norm and, with experts, expert_load_*."""
    validation: Sequence[Row]
    """One row per evaluation: step, loss and, where bytes are known, bits_per_byte."""
    skipped: Sequence[int]
    """Steps thrown away."""
    expert_load: Mapping[str, Mapping[str, float]]
    """Per layer: min, max (shares of an even load) and cv over the last steps."""
    facts: RunFacts
    attention: str | None = None
    """What computed attention over packed documents on a GPU."""

    def metrics(self) -> TrainingMetrics:
        """What every stage that learns the next token reports."""
        facts = self.facts
        return TrainingMetrics(
            steps=len(self.history),
            tokens=facts.tokens,
            train_loss_first=self.history[0]["loss"],
            train_loss_last=statistics.fmean(row["loss"] for row in self.history[-10:]),
            skipped_steps=len(self.skipped),
            seconds=round(facts.seconds, 2),
            tokens_per_second=round(facts.tokens_per_second, 1),
            peak_memory_bytes=facts.peak_memory,
            checkpoints=facts.checkpoints,
            checkpoint_seconds=round(facts.checkpoint_seconds, 3),
            layout=facts.layout,
            attention=self.attention,
            expert_load={layer: ExpertLoad(**load) for layer, load in self.expert_load.items()} or None,
            **(before_and_after(self.validation[0], self.validation[-1]) if self.validation else {}),
        )


def train(
    model: Transformer,
    source: BatchSource,
    config: TrainingConfig,
    work_dir: Path,
    *,
    validation: Validation | None = None,
    evaluate: Evaluate | None = None,
    identity: str = "",
    phase: str = "train",
    replay: Replay | None = None,
) -> TrainingResult:
    """Train `model` in place for ``config.steps`` steps; every rank calls it with the same arguments.

    Args:
        model: on the CPU; the same weights on every rank.
        work_dir: where snapshots go; a killed run of the same config and `identity` found there is continued.
        validation: measured before the first step, every ``validate_every`` steps, and at the end.
        evaluate: further metrics at the same moments.
        identity: of what else determines the result (data, initial weights), for telling runs apart.
        replay: what is learned besides in every step.

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
    replay = replay or Replay()
    task = NextToken(engine, source, config, depths, validation, evaluate, phase, replay)
    length = RunLength(config.steps, config.validate_every)
    trainer = Trainer(task, engine, length, work_dir, lineage(config, identity + replay.identity))
    facts = trainer.run()
    history = trainer.history
    packs_on_gpu = config.document_mask and engine.device.type == "cuda"
    return TrainingResult(
        engine.full_model(),
        history.steps,
        history.evaluations,
        task.bad.steps,
        task.loads.recent(),
        facts,
        told(model.kernel) if packs_on_gpu else None,
    )
