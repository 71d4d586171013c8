"""What an answer earns: by rule alone, for a policy learns to fool a model of rewards (DeepSeek-R1, section 2.2.2)."""

from __future__ import annotations

from dataclasses import dataclass

from model.finetune_sections import GrpoConfig
from model.generation.solve import Solution
from pipeline.text.language import consistency

__all__ = ["Reward", "reward"]


@dataclass(frozen=True)
class Reward:
    """Marks of one answer."""

    accuracy: float
    """1 when the answer is right."""
    format: float
    """1 when reasoning, answer and end are all there, in this order."""
    language: float
    """Share of the words of reasoning in the wanted language; 1 where none is wanted."""
    total: float
    """The weighted sum, less what an answer loses that is too long."""


def reward(solution: Solution, config: GrpoConfig) -> Reward:
    """Accuracy, format and language, weighted as configured (R1 adds them up, section 2.3.2)."""
    shape = float(solution.is_well_formed)
    language = consistency(solution.reasoning, config.language) if config.language else 1.0
    total = config.accuracy_reward * solution.score + config.format_reward * shape
    if config.language:
        total += config.language_reward * language
    if config.overlong_tokens:
        total -= overlong(len(solution.completion.tokens), solution.completion.finished, config)
    return Reward(solution.score, shape, language, total)


def overlong(length: int, finished: bool, config: GrpoConfig) -> float:
    """What an answer of `length` tokens loses for it, from 0 to 1 (DAPO, arXiv 2503.14476, Eq 13)."""
    if not finished:
        return 1.0
    return max(0.0, (length - config.max_new_tokens + config.overlong_tokens) / config.overlong_tokens)
