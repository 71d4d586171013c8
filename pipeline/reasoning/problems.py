"""A problem with the answer that a program can check: the rows of the artifact `reasoning`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from infra.facts import StageMetrics
from infra.json_objects import JsonObject

__all__ = [
    "ChoiceProblem",
    "Problem",
    "ReasoningMetrics",
    "RejectedRecord",
    "question_key",
    "read_tasks",
    "write_tasks",
]


class ReasoningMetrics(StageMetrics):
    """Of the stage `reasoning`."""

    train_tasks: int | None = None
    validation_tasks: int | None = None
    test_tasks: int | None = None
    by_task: dict[str, dict[str, int]] | None = None
    """By kind of task and split."""
    train_chain: int | None = None
    """Training tasks that are solved by a chain of thought,"""
    train_direct: int | None = None
    """by the answer alone,"""
    train_program: int | None = None
    """and by a program."""
    answer_types: dict[str, dict[str, dict[str, int]]] | None = None
    """By file, type of answer, and whether it was declared or found."""
    rejected: int | None = None


class Problem(TypedDict):
    """One row of a split."""

    id: str
    task: str
    """Its kind: a generator's name, or what the file calls it."""
    question: str
    reasoning: str
    """A chain of thought; empty where nobody wrote one."""
    answer: str
    metadata: JsonObject
    """What the generator or the file said besides."""
    response: NotRequired[str]
    """How a solution ends where that is not the answer itself: a program."""


class ChoiceProblem(TypedDict):
    """A question of multiple choice."""

    id: str
    task: str
    question: str
    choices: list[str]
    answer: int
    """Position of the right choice."""
    metadata: JsonObject


class RejectedRecord(TypedDict):
    """A record of a user's file that is no problem."""

    file: str
    record: int
    """Its number in the file, from 1."""
    rule: str
    """What is wrong with it."""
    text: str


def question_key(question: str) -> str:
    """What makes two questions the same one: their words, case and spacing aside."""
    return " ".join(question.casefold().split())


def read_tasks(path: Path) -> list[Problem]:
    """The rows of a split."""
    with path.open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def write_tasks(path: Path, rows: Sequence[Problem]) -> None:
    """Write the rows of a split."""
    lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
