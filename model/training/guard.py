"""Steps that must not move the weights: losses that are no numbers or have jumped, and what is done about them.

A loss is judged on the device, so that nobody has to wait for it: the gradient of a step that is to be thrown away is
multiplied by NaN, and no engine takes a step along such a gradient. What was thrown away is learned of when the
numbers are read, and then recorded, or the run is ended.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infra import events
from infra.errors import UserError
from model.sections import BadStep

__all__ = ["RECENT", "BadSteps", "SpikeGuard", "poisoned"]

RECENT = 20
"""Losses whose median a new one is compared with."""
LEAST_JUMP = 0.5
"""Nats by which a spike is above that median: what is learnt to the last digit varies by large factors."""
MOST_IN_A_ROW = 10
"""Bad steps after which going on is no use."""


def poisoned(loss: Tensor, is_good: Tensor) -> Tensor:
    """`loss`, to the bit, where `is_good` [] holds; else NaN, and so are its gradients."""
    return loss * torch.where(is_good, 1.0, torch.nan)


class SpikeGuard:
    """Tells whether a loss is a number, and no spike against the recent ones.

    Args:
        factor: a loss above this multiple of the recent median, and `LEAST_JUMP` above it, has jumped.
    """

    def __init__(self, factor: float, device: torch.device) -> None:
        self._factor = factor
        self._recent = torch.full((RECENT,), torch.nan, dtype=torch.float64, device=device)

    def judge(self, loss: Tensor) -> Tensor:
        """True [] on the device where `loss` [] is good. Until there are `RECENT` losses, every number is."""
        middle = self._recent.sort().values[RECENT // 2 - 1 : RECENT // 2 + 1].mean()
        usual = torch.where(self._recent.isfinite().all(), middle, torch.inf)
        return loss.isfinite() & (loss <= torch.maximum(self._factor * usual, usual + LEAST_JUMP))

    def add(self, loss: Tensor) -> None:
        """The loss of one more step, good or bad."""
        self._recent = torch.cat((self._recent[1:], loss[None]))

    def restore(self, losses: Sequence[float]) -> None:
        """Take up the losses of the steps so far."""
        values = torch.tensor(losses[-RECENT:], dtype=torch.float64, device=self._recent.device)
        self._recent = torch.cat((self._recent.fill_(torch.nan), values))[-RECENT:]


class BadSteps:
    """The steps that were thrown away, and when enough is enough.

    Args:
        stage: begins every error, where it is not clear from elsewhere.
        remedy: what the user can do.
    """

    def __init__(self, policy: BadStep, remedy: str, *, stage: str = "", tells: bool = True) -> None:
        self._policy, self._remedy, self._stage, self._tells = policy, remedy, stage and f"{stage}: ", tells
        self.steps: list[int] = []
        """Their numbers, from 1."""

    def add(self, step: int, why: str) -> None:
        """Step `step` (from 0) was thrown away.

        Raises:
            UserError: the run should not go on.
        """
        what = f"step {step + 1}: {why}"
        if self._policy is BadStep.STOP:
            raise UserError(f"{self._stage}{what}: not a number or a spike; {self._remedy}")
        if self.steps[-1:] != [step + 1]:  # a step may have several updates
            self.steps.append(step + 1)
        if self.steps[-MOST_IN_A_ROW:] == list(range(step + 2 - MOST_IN_A_ROW, step + 2)):
            raise UserError(f"{self._stage}{what}: bad step number {MOST_IN_A_ROW} in a row; {self._remedy}")
        if self._tells:
            events.note(f"{what}, skipped")
