"""What an answer earns: by rule alone, for a policy learns to fool a model of rewards (DeepSeek-R1, section 2.2.2)."""

from __future__ import annotations

from dataclasses import dataclass

from model.sections import GrpoConfig
from model.solve import Solution

__all__ = ["Reward", "reward"]


@dataclass(frozen=True)
class Reward:
    """Marks of one answer."""

    accuracy: float
    """1 when the answer is right."""
    format: float
    """1 when reasoning, answer and end are all there, in this order."""
    total: float
    """The weighted sum."""


def reward(solution: Solution, config: GrpoConfig) -> Reward:
    """Accuracy and format, weighted as configured."""
    shape = float(solution.is_well_formed)
    total = config.accuracy_reward * solution.score + config.format_reward * shape
    return Reward(solution.score, shape, total)
