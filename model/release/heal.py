"""A pruned model learns the predictions of the whole one again: forward divergence on training rows, a few steps.

    loss = mean over tokens of  sum over v of  whole(v) (ln whole(v) - ln pruned(v)),

over the whole vocabulary (Hinton et al., arXiv 1503.02531, at temperature 1). Text and solved tasks are those of
calibration, but other rows. Killed, it resumes from its last snapshot.

Shapes: B rows, T positions, D hidden, V vocabulary, n counted positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from model.architecture.transformer import Transformer
from model.release.divergence import counted
from model.release.rows import CalibrationBatch, cut, joined
from model.sections import BadStep, OptimizerConfig, PruneConfig, Schedule
from model.training.engine import SingleEngine
from model.training.epochs import places_of_step
from model.training.guard import BadSteps
from model.training.journal import Row
from model.training.lineage import lineage
from model.training.prepare import autocast
from model.training.schedule import learning_rate
from model.training.trainer import RunLength, StepRecord, StepResult, Task, TaskState, Trainer

__all__ = ["Healing", "heal"]

WARMUP = 0.1
"""Share of the steps."""


class Healing(Task):
    """Steps towards the predictions of a teacher."""

    phase = "healing"

    def __init__(
        self,
        engine: SingleEngine,
        teacher: Transformer,
        rows: CalibrationBatch,
        config: OptimizerConfig,
        batch: int,
        at_once: int,
    ) -> None:
        self.engine, self.config, self.rows = engine, config, rows
        self.teacher = teacher.to(engine.device).eval()
        self.batch, self.at_once = batch, at_once
        self.bad = BadSteps(BadStep.SKIP, "lower quantize.prune.heal_learning_rate", stage="quantize.prune")

    def step(self, step: int) -> StepResult:
        """Learn the rows of a step, some at a time."""
        chosen = self.rows[places_of_step(step, self.batch, len(self.rows.tokens_BT), self.config.seed)]
        parts = list(cut(chosen, self.at_once))
        masks = [counted(part) for part in parts]
        tokens = max(1, sum(int(mask.sum()) for mask in masks))
        total = torch.zeros((), dtype=torch.float64, device=self.engine.device)
        for number, (part, mask) in enumerate(zip(parts, masks, strict=True)):
            loss = self._divergence(part, mask) / tokens
            total += loss.detach().double()
            self.engine.backward(loss, last=number + 1 == len(parts))
        norm = self.engine.step(learning_rate(self.config, step))
        return StepResult({"divergence": total, "grad_norm": norm}, tokens=chosen.tokens_BT.numel())

    def _divergence(self, part: CalibrationBatch, mask_Bt: Tensor) -> Tensor:
        """Summed over the counted positions [n] of the part."""
        device = self.engine.device
        tokens_BT, documents_BT = part.tokens_BT.to(device), part.documents_BT.to(device)
        with torch.no_grad(), autocast(device):
            states_nD = self.teacher.hidden(tokens_BT, documents_BT)[:, :-1][mask_Bt.to(device)]
            theirs_nV = self.teacher.lm_head(states_nD).float().log_softmax(-1)
        ours_nV = self.engine.forward(tokens_BT, documents_BT)[:, :-1][mask_Bt.to(device)].log_softmax(-1)
        return F.kl_div(ours_nV, theirs_nV, reduction="sum", log_target=True)

    def record(self, record: StepRecord) -> Row:
        """Divergence, learning rate and gradient norm; a gradient that is no number has moved nothing."""
        if not math.isfinite(record.numbers["grad_norm"]):
            self.bad.add(record.step, f"divergence {record.numbers['divergence']:.4g}")
        rate = learning_rate(self.config, record.step)
        return {"step": record.step + 1, "learning_rate": rate, **record.numbers}

    def state(self) -> TaskState:
        """Steps thrown away."""
        return TaskState(skipped=self.bad.steps)

    def restore(self, state: TaskState) -> None:
        """Take up what `state` gave."""
        self.bad.steps = state.skipped


def heal(
    pruned: Transformer,
    whole: Transformer,
    rows: Sequence[CalibrationBatch],
    config: PruneConfig,
    *,
    seed: int,
    at_once: int,
    work: Path,
    identity: Sequence[str | Path] = (),
) -> tuple[Transformer, list[Row]]:
    """Train `pruned` in place for ``config.heal_steps`` steps towards `whole`.

    Args:
        at_once: rows that go through the models together.
        work: where snapshots go.
        identity: of what else determines the result, beside `config` and `seed`.

    Returns:
        The model, and a row per step.

    Raises:
        UserError: ten steps in a row whose gradient was no number.
        SystemExit: 143, saved after SIGTERM.
    """
    optimizer = OptimizerConfig(
        steps=config.heal_steps,
        learning_rate=config.heal_learning_rate,
        schedule=Schedule.COSINE,
        warmup_steps=math.ceil(WARMUP * config.heal_steps),
        weight_decay=0.0,
        balance_loss=0.0,
        bias_update_speed=0.0,
        seed=seed,
    )
    engine = SingleEngine(pruned.requires_grad_(True), optimizer)
    task = Healing(engine, whole, joined(rows), optimizer, config.heal_batch, at_once)
    origin = lineage(config, optimizer.model_dump_json(), *identity)
    trainer = Trainer(task, engine, RunLength(config.heal_steps), work, origin)
    trainer.run()
    whole.cpu()
    healed = engine.full_model()
    assert healed is not None
    return healed.requires_grad_(False), list(trainer.history.steps)
