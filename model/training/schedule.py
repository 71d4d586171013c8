"""The learning rate of every step."""

from __future__ import annotations

import math

from model.sections import OptimizerConfig, Schedule

__all__ = ["learning_rate"]

DROPS = ((0.9, 0.1), (0.8, 0.316))
"""Of the multi-step schedule, the last first: from this share of the steps on, this share of the peak (DeepSeek-LLM,
arXiv 2401.02954, section 2.3)."""
LEAST = 0.1
"""Share of the peak that a cosine ends at."""


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """Learning rate of `step` (from 0): linear warm-up from 1 / warmup_steps of the peak, then the schedule."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    match config.schedule:
        case Schedule.CONSTANT:
            factor = 1.0
        case Schedule.MULTI_STEP:
            factor = next((share for begin, share in DROPS if step / config.steps >= begin), 1.0)
        case Schedule.COSINE:
            done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
            factor = LEAST + (1 - LEAST) / 2 * (1 + math.cos(math.pi * done))
    return config.learning_rate * factor
