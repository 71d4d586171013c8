"""What the arms of a study are measured by: a held-out loss of a training stage, or how many problems are solved."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from flows.recipe.recipe import Recipe
from flows.recipe.stages import CHECKPOINTS, stage_names
from flows.run.run_view import Run
from infra.errors import UserError
from infra.nearest import hint

__all__ = ["Better", "Measure", "measure_of"]

_WRITTEN = re.compile(r"(loss|accuracy)(?:/(.+))?")


class Better(StrEnum):
    """Which way a measure is better."""

    LOWER = "lower"
    """A loss."""
    HIGHER = "higher"
    """An accuracy, in per cent."""


@dataclass(frozen=True)
class Measure:
    """One number of a finished run."""

    name: str
    """As studies write it."""
    is_loss: bool
    of: str
    """The training stage of a loss; the kind of problems of an accuracy, all when empty."""

    @property
    def better(self) -> Better:
        """Which way it is better."""
        return Better.LOWER if self.is_loss else Better.HIGHER

    @property
    def label(self) -> str:
        """As a table heads it."""
        if self.is_loss:
            return "validation loss" if self.of == "pretrain" else f"validation loss of {self.of}"
        return f"accuracy, {self.of}" if self.of else "accuracy"

    @property
    def meaning(self) -> str:
        """What its numbers are, as the beginning of a sentence."""
        if self.is_loss:
            return f"Loss at the end of {self.of} on held-out rows, in nats per token"
        return (
            f"Share of the held-out problems{f' of the kind {self.of}' if self.of else ''} that the last model solves"
        )

    def shown(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:.4f}" if self.is_loss else f"{value:.1f} %"

    def listed(self, values: Sequence[float]) -> str:
        """Several, without the unit."""
        return ", ".join(self.shown(value).removesuffix(" %") for value in values)

    def difference(self, value: float, half_width: float | None) -> str:
        """With its 95 % interval, where it has one; of accuracies in points."""
        digits = 4 if self.is_loss else 1
        has_interval = half_width is not None and math.isfinite(half_width)
        return f"{value:+.{digits}f}" + (f" ± {half_width:.{digits}f}" if has_interval else "")

    def check(self, recipe: Recipe) -> None:
        """UserError where a run of `recipe` will not have it: known now, and not when all has been trained."""
        stage = self.of if self.is_loss else "evaluate"
        if not recipe.has(stage):
            raise UserError(
                f"measure {self.name} wants {stage}, which the recipe leaves out; give the base recipe {stage}, and "
                "the study only_pretrain: false"
            )

    def value(self, run: Run) -> float:
        """Of a finished run: nats per token, or per cent.

        Raises:
            UserError: it has none.
        """
        found = self._loss(run) if self.is_loss else self._accuracy(run)
        if found is None:
            remedy = f"set {self.of}.validation_sequences" if self.is_loss else self._kinds(run)
            raise UserError(f"run {run.run_id} has no {self.label}; {remedy}")
        return found

    def _loss(self, run: Run) -> float | None:
        points = run.stage(self.of).history().get("validation_loss", [])
        return points[-1][1] if points else None

    def _accuracy(self, run: Run) -> float | None:
        found = run.evaluation.checkpoints
        marks = next((found[name] for name in reversed(CHECKPOINTS) if name in found), None)
        if marks is None:
            return None
        share = (marks.accuracy_by_task or {}).get(self.of) if self.of else marks.accuracy
        return None if share is None else 100 * share

    def _kinds(self, run: Run) -> str:
        kinds = {kind for marks in run.evaluation.checkpoints.values() for kind in marks.accuracy_by_task or {}}
        return f"its problems are of {', '.join(sorted(kinds))}" if kinds else "its evaluation cannot be read"


def measure_of(name: str) -> Measure:
    """``loss`` (of pretraining), ``loss/STAGE``, ``accuracy`` (of the last model, on all problems), ``accuracy/TASK``.

    Raises:
        ValueError: it is none of these.
    """
    written = _WRITTEN.fullmatch(name)
    if written is None:
        raise ValueError(f"{name} is no measure; there are loss, loss/STAGE, accuracy and accuracy/TASK")
    kind, of = written[1], written[2] or ""
    if kind == "accuracy":
        return Measure(name, False, of)
    if of and of not in stage_names():
        raise ValueError(f"{name}: no such stage; {hint(of, stage_names(), 'loss alone is that of pretrain')}")
    return Measure(name, True, of or "pretrain")
