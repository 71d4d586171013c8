"""Lets a model solve tasks and marks the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from infra import events
from model.architecture.transformer import Transformer
from model.generation.generate import Completion, Sampling, generate, is_well_formed
from model.generation.reasoning import split_reasoning
from pipeline.reasoning.problems import Problem
from pipeline.reasoning.sandbox import LIMITS, Limits
from pipeline.reasoning.scoring import mark_answers
from pipeline.tokens.chat import chat_format

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Answered", "Solution", "answered", "note_what_is_cut", "solve", "solve_each"]


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
    value: str = ""
    """What the answer comes to: what a program printed, else the answer."""
    program: str = ""
    """How a program ended; empty where the answer is none."""


class Answered(TypedDict):
    """An answer beside what was asked, as artifacts keep it for people to read."""

    question: str
    reasoning: str
    answer: str
    value: str
    program: str
    expected: str


def answered(problem: Problem, solution: Solution) -> Answered:
    """What was asked, said and expected."""
    return {
        "question": problem["question"],
        "reasoning": solution.reasoning,
        "answer": solution.answer,
        "value": solution.value,
        "program": solution.program,
        "expected": problem["answer"],
    }


def note_what_is_cut(tokenizer: Tokenizer, rows: Sequence[Problem], key: str, max_new_tokens: int) -> int:
    """How many rows have a worked solution longer than an answer may be; a line for people where there are any.

    A model that has learned to work as the rows do gets no end to such an answer, which counts as wrong.

    Args:
        key: of the recipe, which says how many tokens an answer may have.
    """
    chat = chat_format(tokenizer)
    lengths = [len(chat.response(row["reasoning"], row["answer"])) for row in rows if row["reasoning"]]
    longer = sum(length > max_new_tokens for length in lengths)
    if longer:
        events.note(
            f"{longer} of {len(lengths)} worked solutions have more than {max_new_tokens} tokens: an answer like them "
            f"is cut off and counts as wrong; set {key} to {max(lengths)} or more"
        )
    return longer


def solve(
    model: Transformer,
    tokenizer: Tokenizer,
    rows: Sequence[Problem],
    sampling: Sampling,
    *,
    batch_size: int = 64,
    numbers: Sequence[int] | None = None,
    programs: bool = True,
    limits: Limits = LIMITS,
    logprobs: bool = False,
) -> list[Solution]:
    """Ask the questions of `rows` (of a reasoning split) and score what comes back.

    Args:
        numbers, logprobs: see `model.generation.generate.generate`.
        programs: run answers that are programs, within `limits` each.
    """
    chat = chat_format(tokenizer)
    prompts = [chat.question(row["question"]) for row in rows]
    completions = generate(
        model, prompts, sampling, stop=chat.eos, batch_size=batch_size, numbers=numbers, logprobs=logprobs
    )
    texts = [chat.begun + chat.said(completion.tokens) for completion in completions]
    parts = [split_reasoning(text) for text in texts]
    # an answer that has no end is none
    answers = [
        answer if completion.finished else "" for (_, answer), completion in zip(parts, completions, strict=True)
    ]
    marks = mark_answers(answers, rows, programs=programs, limits=limits)
    return [
        Solution(
            completion=completion,
            reasoning=thought,
            answer=answer,
            score=mark.score,
            is_well_formed=completion.finished and is_well_formed(text),
            value=mark.value,
            program=mark.program,
        )
        for completion, text, (thought, answer), mark in zip(completions, texts, parts, marks, strict=True)
    ]


def solve_each(
    model: Transformer,
    tokenizer: Tokenizer,
    rows: Sequence[Problem],
    times: int,
    sampling: Sampling,
    *,
    batch_size: int,
    first: int = 0,
    programs: bool = True,
) -> list[list[Solution]]:
    """`solve`, each of `rows` so many `times`: the solutions of each.

    Args:
        first: number of the first answer, where `rows` are a part of more: random numbers follow from it.
    """
    asked = [row for row in rows for _ in range(times)]
    numbers = range(first, first + len(asked))
    found = solve(model, tokenizer, asked, sampling, batch_size=batch_size, numbers=numbers, programs=programs)
    return [found[start : start + times] for start in range(0, len(found), times)]
