"""The learning rate of every step."""

from __future__ import annotations

import math

from model.sections import OptimizerConfig, Schedule

__all__ = ["learning_rate"]


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """Learning rate of `step` (from 0): linear warm-up from 1 / warmup_steps of the peak, then the schedule."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = step / config.steps
    match config.schedule:
        case Schedule.CONSTANT:
            factor = 1.0
        case Schedule.MULTI_STEP:
            factor = 0.1 if progress >= 0.9 else 0.316 if progress >= 0.8 else 1.0
        case Schedule.COSINE:
            done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
            factor = 0.1 + 0.45 * (1 + math.cos(math.pi * done))
    return config.learning_rate * factor
