"""Lets a model solve tasks and marks the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.generate import Completion, Sampling, generate, is_well_formed, prompt_tokens, split_reasoning, token_id
from model.transformer import Transformer
from pipeline.reasoning import score

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Solution", "solve"]


@dataclass(frozen=True)
class Solution:
    """What a model made of one task."""

    completion: Completion
    reasoning: str
    answer: str
    score: float
    """1 for a right answer that has an end, else 0."""
    is_well_formed: bool
    """One piece of reasoning inside its tags, an answer after it, and an end."""


def solve(
    model: Transformer,
    tokenizer: Tokenizer,
    rows: Sequence[Mapping[str, Any]],
    sampling: Sampling,
    *,
    batch_size: int = 64,
) -> list[Solution]:
    """Ask the questions of `rows` (of a reasoning split) and score what comes back."""
    prompts = [prompt_tokens(tokenizer, row["question"]) for row in rows]
    stop = token_id(tokenizer, "<|eos|>")
    solutions = []
    for row, completion in zip(rows, generate(model, prompts, sampling, stop=stop, batch_size=batch_size), strict=True):
        text = tokenizer.decode(completion.tokens)
        thought, answer = split_reasoning(text)
        marks = score(row["task"], answer, row) if completion.finished else 0.0
        solutions.append(Solution(completion, thought, answer, marks, completion.finished and is_well_formed(text)))
    return solutions
