"""Whether an answer is right: by rule, the same for training's rewards and for the evaluation.

In this order: what is asked for to the letter (spacing and the commas of thousands aside), the same number, then the
judge of the task: the scorer of `reasoning-gym` for its tasks, `math-verify` for tasks from files. An answer that is
one fenced block of Python is run, and what it prints is the answer (program of thought). A judge or a program runs in
`pipeline.reasoning.sandbox`.

Every rule is made to be scored against by a policy that looks for its holes: partial marks are not given, for they
reward answers that merely contain the right one; an answer that hedges between several values is wrong; so is one too
long to be an answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline.reasoning.sandbox import LIMITS, Limits, judge, run_programs

__all__ = ["LONGEST_ANSWER", "Mark", "as_program", "boxed", "mark_answers", "score"]

Row = Mapping[str, Any]

LONGEST_ANSWER = 2_000
"""Characters of an answer above which it is wrong unseen."""
LONGEST_PROGRAM = 8_000
ONE_ANSWER = frozenset({"basic_arithmetic", "chain_sum", "gcd", "products", "spell_backward"})
"""Tasks of reasoning-gym with a single right answer, which need no judge."""
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)")
_PROGRAM = re.compile(r"\s*```(?:python|py)?[ \t]*\n(?P<code>.*?)\n?```\s*", re.DOTALL)
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
        values[place], ended[place] = outcomes[code].output.strip(), outcomes[code].status


def _at_once(value: str, row: Row) -> float | None:
    """The score where no judge is needed, else None."""
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
        return 0.0 if task in ONE_ANSWER or _CODE.search(value) else None
    is_math = "file" in metadata and metadata.get("judge", "math") == "math"
    if not is_math or all(number is not None for number in numbers):
        return 0.0
    return None if _one_value(value) is not None else 0.0


def _request(value: str, row: Row) -> dict[str, Any]:
    """What the judge of the row's task is asked."""
    metadata = row["metadata"]
    if metadata.get("source_dataset") == row["task"]:
        entry = {"question": row["question"], "answer": row["answer"], "metadata": metadata}
        return {"kind": "gym", "dataset": row["task"], "answer": value.strip(), "entry": entry}
    return {"kind": "math", "answer": _one_value(value), "expected": str(row["answer"])}


def _one_value(answer: str) -> str | None:
    """The one value that an answer gives: its last box, else all of it; None when it gives several.

    math-verify takes the best of many: ``1=2=3`` and ``$1$ $2$ $3$`` would both be right for 3.
    """
    boxes = boxed(answer)
    if boxes:
        text = boxes[-1] if len(set(boxes)) == 1 else ""
    else:
        text = re.sub(r"\$+", "$", answer).strip()
        if text.count("$") == 2 and text.startswith("$") and text.endswith("$"):
            text = text[1:-1]
    is_several = text.count("=") > 1 or "$" in text or re.search(r"\b(?:or|and)\b|\\(?:text|mbox)\{\s*or", text)
    return None if not text.strip() or is_several or _CODE.search(text) else text


def boxed(text: str) -> list[str]:
    r"""The contents of every ``\boxed{...}``, braces matched; one that never closes is none."""
    found, start = [], 0
    while (start := text.find("\\boxed{", start)) >= 0:
        depth, end = 1, start + len("\\boxed{")
        first = end
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        if depth:
            break
        found.append(text[first : end - 1].strip())
        start = end
    return found


def _normal(text: str) -> str:
    """`text` without commas of thousands, and with spacing that tells nothing made the same: ``1, 2`` is ``1,2``, and
    neither is ``12``.
    """
    kept = _THOUSANDS.sub("", text[: 4 * LONGEST_ANSWER])
    return re.sub(r"\s*,\s*", ",", re.sub(r"\s+", " ", kept)).strip()
