"""Scorers against labelled answers, honest and hostile."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pipeline.reasoning.scoring import as_program, boxed, mark_answers, score
from pipeline.text.language import LANGUAGES, consistency


def _file_row(answer: str, **metadata: Any) -> dict[str, Any]:
    return {"task": "mine", "question": "?", "answer": answer, "metadata": {"file": "mine.jsonl", **metadata}}


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("0.5", r"\frac{1}{2}", 1),
        (r"\boxed{\frac{1}{2}}", "0.5", 1),
        (r"The answer is \boxed{42}.", "42", 1),
        (r"$\sqrt{8}$", r"2\sqrt{2}", 1),
        (r"2\sin x\cos x", r"\sin 2x", 1),
        (r"\cos x", r"\sin 2x", 0),
        ("x = 3", "3", 1),
        ("3.0", "3", 1),
        ("1,000", "1000", 1),
        (r"(1, 2)", r"(1,2)", 1),
        ("1,234,567", "1234567", 1),
        ("(1, 2)", "12", 0),
        ("4,2", "42", 0),
        ("12", "1,2", 0),
        ("1,00", "100", 0),
        ("43", "42", 0),
        (r"\frac{1}{3}", "0.5", 0),
        ("", "42", 0),
        ("   ", "42", 0),
        ("42" * 400, "42", 0),
        ("1 = 2 = 42", "42", 0),
        ("$41$ $42$ $43$", "42", 0),
        ("41 or 42", "42", 0),
        (r"41 \text{ or } 42", "42", 0),
        (r"\boxed{41} \boxed{42}", "42", 0),
        (r"\boxed{42", "42", 0),
        (r"\boxed{\boxed{42}}", "41", 0),
        ("41, 42, 43", "42", 0),
        ("10^{10^{10^{10^{10}}}}", "42", 0),
        ("9**9**9**9**9", "42", 0),
        ("__import__('os').system('true') or 42", "42", 0),
        ("(lambda: 42)()", "42", 0),
        ("nan", "42", 0),
        (r"\infty", "42", 0),
        ("4" + "\u200b" + "2", "42", 0),
        ("{" * 500, "42", 0),
        (r"\frac" * 300, "42", 0),
    ],
)
def test_mathematics(answer: str, expected: str, right: int) -> None:
    assert score("mine", answer, _file_row(expected)) == right


def test_to_the_letter_where_the_row_asks_for_it() -> None:
    assert score("mine", "0.5", _file_row("1/2", judge="exact")) == 0
    assert score("mine", " 1/2 ", _file_row("1/2", judge="exact")) == 1


def test_a_gigantic_answer_is_wrong_at_once() -> None:
    started = time.monotonic()
    assert score("mine", "42 " * 3_000_000, _file_row("42")) == 0
    assert score("mine", "```python\nprint(42)\n" + "#" * 10_000_000 + "```", _file_row("42")) == 0
    assert time.monotonic() - started < 90  # each comparison of all of it with all of it would take hours


def test_an_answer_that_merely_contains_the_right_one_is_wrong() -> None:
    row = {"task": "chain_sum", "question": "?", "answer": "12", "metadata": {"source_dataset": "chain_sum"}}
    for answer in ("it is 12", "12 13", "1 2", "012345", "12 is the answer"):
        assert score("chain_sum", answer, row) == 0


def test_programs_are_run_or_are_wrong() -> None:
    row = {"task": "chain_sum", "question": "?", "answer": "12", "metadata": {"source_dataset": "chain_sum"}}
    good = "```python\nprint(5 + 7)\n```"
    marks = mark_answers([good, "```python\nwhile True: pass\n```", "```python\nprint(13)\n```", "12"], [row] * 4)
    assert [(mark.score, mark.value, mark.program) for mark in marks] == [
        (1.0, "12", "ok"),
        (0.0, "", "time"),
        (0.0, "13", "ok"),
        (1.0, "12", ""),
    ]
    assert mark_answers([good], [row], programs=False)[0].score == 0
    # the right value from a program that failed counts for nothing
    assert mark_answers(["```python\nprint(12)\n1/0\n```"], [row])[0].score == 0


def test_lists_may_be_spaced_as_one_likes() -> None:
    row = {"task": "sort", "question": "?", "answer": "1, 2, 3", "metadata": {}}
    assert [score("sort", answer, row) for answer in ("1,2,3", "1 , 2,  3", "123", "1, 23")] == [1, 1, 0, 0]


def test_what_is_a_program() -> None:
    assert as_program("```python\nprint(1)\n```\n") == "print(1)"
    assert as_program("```\nprint(1)```") == "print(1)"
    for text in ("print(1)", "Here: ```python\nprint(1)\n```", "```python\na\n```\n```python\nb\n```", "```python\n1"):
        assert as_program(text) is None


def test_a_value_in_a_block_without_a_language_is_a_value() -> None:
    assert [score("mine", answer, _file_row("42")) for answer in ("```\n42\n```", "```\n41\n```")] == [1, 0]
    assert score("mine", "```\nprint(42)\n```", _file_row("42")) == 1
    assert score("mine", "```python\n42\n```", _file_row("42")) == 0


def test_whatever_an_answer_does_to_the_judge_costs_its_own_mark() -> None:
    hostile = ["\\frac{1}{0}", "x" * 2001, "(" * 1500, "9^{9^{9^9}}", "\ud800", "\x00", "\\boxed{" * 250]
    assert [mark.score for mark in mark_answers([*hostile, "42"], [_file_row("42")] * 8)] == [0] * 7 + [1]


def test_boxes() -> None:
    assert boxed(r"\boxed{1} and \boxed{\frac{1}{2}}") == ["1", r"\frac{1}{2}"]
    assert boxed(r"\boxed{\boxed{3}}") == [r"\boxed{3}"]
    assert boxed(r"\boxed{1") == []


def test_language() -> None:
    assert consistency("two and two is 4", "en") == 1
    assert consistency("2+2=4", "en") == 1
    assert consistency("two 加 two", "en") == pytest.approx(2 / 3)
    assert consistency("二加二", "zh") == 1
    assert consistency("два plus два", "ru") == pytest.approx(2 / 3)
    assert consistency("naïve Ä", "de") == 1
    assert {"en", "zh", "ru"} <= set(LANGUAGES)
