"""Whether an answer is right: by rule, the same for training's rewards and for the evaluation.

Answers to questions from files are compared by their type (`pipeline.reasoning.answers`). For tasks of
`reasoning-gym` counts, in this order, what is asked for to the letter (spacing and the commas of thousands aside), the
same number, then the task's own scorer. An answer that is one fenced block of Python is run, and what it prints is the
answer (program of thought). Programs, comparisons and scorers run in `pipeline.reasoning.sandbox`, each in a process
of its own.

Every rule is made to be scored against by a policy that looks for its holes: partial marks are not given, for they
reward answers that merely contain the right one; an answer that hedges between several values is wrong; so is one too
long to be an answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline.reasoning.answers.boxes import boxed
from pipeline.reasoning.answers.detect import find_type
from pipeline.reasoning.answers.judge import same
from pipeline.reasoning.answers.normalise import LONGEST
from pipeline.reasoning.answers.types import declared_type
from pipeline.reasoning.sandbox import LIMITS, GymRequest, Limits, TypedRequest, judge, run_programs

__all__ = ["Mark", "as_program", "boxed", "mark_answers", "same_answer", "score"]

Row = Mapping[str, Any]

LONGEST_ANSWER = LONGEST
"""Characters of an answer above which it is wrong unseen."""
LONGEST_PROGRAM = 8_000
ONE_ANSWER = frozenset({"basic_arithmetic", "chain_sum", "gcd", "products", "spell_backward"})
"""Tasks of reasoning-gym with a single right answer, which need no judge."""
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)")
_PROGRAM = re.compile(r"\s*```(?:python3?|py)?[ \t]*\n(?P<code>.*?)\n?```\s*", re.DOTALL | re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_CODE = re.compile(r"__|\b(?:exec|eval|compile|import|lambda|getattr|open|globals|os|sys)\b")


@dataclass(frozen=True)
class Mark:
    """What is made of one answer."""

    score: float
    """1 when it is right, else 0."""
    value: str
    """The answer itself: what a program printed, else the text."""
    program: str = ""
    """How a program ended (see `pipeline.reasoning.sandbox.Outcome`); empty where the answer is none."""


def mark_answers(
    answers: Sequence[str], rows: Sequence[Row], *, programs: bool = True, limits: Limits = LIMITS
) -> list[Mark]:
    """Mark each of `answers` to its row of a reasoning split.

    Args:
        programs: run answers that are programs; else they are wrong, like any other text.
    """
    values, ended = list(answers), [""] * len(answers)
    if programs:
        _run(values, ended, limits)
    scores: list[float | None] = [
        _at_once(value, row) if status in ("", "ok") else 0.0
        for value, row, status in zip(values, rows, ended, strict=True)
    ]
    asked = {
        place: _request(values[place], rows[place]) for place, found in enumerate(scores) if found is None
    }  # what no rule has decided
    for place, mark in zip(asked, judge(list(asked.values())), strict=True):
        scores[place] = float(mark >= 1.0)
    return [Mark(found or 0.0, value, status) for found, value, status in zip(scores, values, ended, strict=True)]


def score(task: str, answer: str, row: Row) -> float:
    """1 when `answer` is right for `row`, else 0; a program is run."""
    return mark_answers([answer], [{**row, "task": task}])[0].score


def same_answer(first: str, second: str, row: Row) -> bool:
    """Whether two answers to the question of `row` are the same to what judges them, right or wrong: for votes."""
    if first == second or _normal(first) == _normal(second):
        return True
    if not _is_from_file(row):
        numbers = [_NUMBER.fullmatch(_normal(text)) and Decimal(_normal(text)) for text in (first, second)]
        return numbers[0] is not None and numbers[0] == numbers[1]
    kind = declared_type(row["metadata"]) or find_type(str(row["answer"]))
    return same(first, second, kind, str(row.get("question", "")))


def as_program(answer: str) -> str | None:
    """The code of an answer that is one fenced block of Python and nothing else."""
    found = _PROGRAM.fullmatch(answer) if len(answer) <= LONGEST_PROGRAM else None
    return None if found is None or "```" in found["code"] else found["code"]


def _run(values: list[str], ended: list[str], limits: Limits) -> None:
    """Put in place of each program what it prints, and how it ended."""
    codes = {place: code for place, value in enumerate(values) if (code := as_program(value)) is not None}
    distinct = list(dict.fromkeys(codes.values()))  # the answers of a group are often the same
    outcomes = dict(zip(distinct, run_programs(distinct, limits), strict=True))
    for place, code in codes.items():
        output, ended[place] = outcomes[code].output.rstrip(), outcomes[code].status
        is_value = not output and values[place].lstrip().startswith("```\n")  # a value in a block, as Markdown has it
        values[place] = code if is_value and ended[place] == "ok" else output


def _at_once(value: str, row: Row) -> float | None:
    """The score where no judge is needed, else None."""
    if _is_from_file(row):
        is_empty = not value.strip() or len(value) > LONGEST_ANSWER
        return 0.0 if is_empty else 1.0 if value == str(row["answer"]) else None
    given, expected = _normal(value), _normal(str(row["answer"]))
    if not given or len(given) > LONGEST_ANSWER:
        return 0.0
    if given == expected:
        return 1.0
    task = row["task"]
    numbers = [_NUMBER.fullmatch(text) and Decimal(text) for text in (given, expected)]
    if all(number is not None for number in numbers) and numbers[0] == numbers[1]:
        return 1.0
    metadata = row.get("metadata") or {}
    if metadata.get("source_dataset") == task:
        is_code = _CODE.search(unicodedata.normalize("NFKC", value))  # the form in which Python reads identifiers
        return 0.0 if task in ONE_ANSWER or is_code else None
    return 0.0


def _is_from_file(row: Row) -> bool:
    """Whether a row is judged by its answer's type: it comes from a file and does not ask for the letter."""
    metadata = row.get("metadata") or {}
    return "file" in metadata and (metadata.get("judge") or "math") == "math"


def _request(value: str, row: Row) -> TypedRequest | GymRequest:
    """What the judge of the row is asked."""
    metadata = row["metadata"]
    if not _is_from_file(row):
        entry = {"question": row["question"], "answer": row["answer"], "metadata": metadata}
        return {"kind": "gym", "dataset": row["task"], "answer": value.strip(), "entry": entry}
    choices = metadata.get("choices")
    return {
        "kind": "typed",
        "answer": value,
        "expected": str(row["answer"]),
        "answer_type": metadata.get("answer_type"),
        "choices": [text for text in choices if isinstance(text, str)] if isinstance(choices, list) else [],
        "question": str(row.get("question", "")),
    }


def _normal(text: str) -> str:
    """`text` without commas of thousands, and with spacing that tells nothing made the same: ``1, 2`` is ``1,2``, and
    neither is ``12``.
    """
    kept = _THOUSANDS.sub("", text[: 4 * LONGEST_ANSWER])
    return re.sub(r"\s*,\s*", ",", re.sub(r"\s+", " ", kept)).strip()
