"""The judge of answers against labelled cases of every type, honest and hostile."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reasoning.answers.algebra import quotient_of
from pipeline.reasoning.answers.detect import find_type
from pipeline.reasoning.answers.judge import fits, judge
from pipeline.reasoning.answers.quotients import Algebra
from pipeline.reasoning.answers.syntax import NotAFormulaError, parse_formula
from pipeline.reasoning.answers.types import AnswerType, declared_type

CASES: list[dict[str, Any]] = [
    json.loads(line) for line in Path(__file__).with_name("cases.jsonl").read_text(encoding="utf-8").splitlines()
]


def _verdict(case: dict[str, Any]) -> bool:
    declared = AnswerType(case["answer_type"]) if "answer_type" in case else None
    return judge(case["expected"], case["answer"], declared, case.get("choices", ()), case.get("question", ""))


@pytest.mark.parametrize("kind", list(AnswerType))
def test_labelled_answers(kind: AnswerType) -> None:
    mine = [case for case in CASES if case["type"] == kind]
    labels = Counter(case["right"] for case in mine)
    assert len(mine) >= 40
    assert min(labels.values()) >= len(mine) / 4
    wrong_accepted = [case for case in mine if not case["right"] and _verdict(case)]
    right_refused = [case for case in mine if case["right"] and not _verdict(case)]
    assert (wrong_accepted, right_refused) == ([], [])


@pytest.mark.parametrize("kind", list(AnswerType))
def test_types_are_found_from_the_expected_answer(kind: AnswerType) -> None:
    mine = {case["expected"] for case in CASES if case["type"] == kind and "answer_type" not in case}
    assert mine
    assert {expected: find_type(expected) for expected in mine} == dict.fromkeys(mine, kind)
    assert all(fits(expected, kind) for expected in mine)


@pytest.mark.parametrize(
    ("kind", "expected", "answer", "right"),
    [
        # the same text means another thing under another type
        ("text", "3.10", "3.1", False),
        (None, "3.10", "3.1", True),
        ("sequence", "1, 2, 3", "3, 2, 1", False),
        ("set", "3, 1, 2", "1, 2, 3", True),
        ("text", "e", "2.71828", False),
        ("expression", "B", "2B/2", True),
        ("choice", "b", "B) 12", True),
        ("code_output", "1, 2", "1,2", False),
        ("number", "one", "1", True),
        ("set", "(1,2)", "(1,2)", True),
        ("date", "noon", "12:00 PM", True),
    ],
)
def test_a_declared_type_decides(kind: str | None, expected: str, answer: str, right: bool) -> None:
    assert judge(expected, answer, None if kind is None else AnswerType(kind)) is right


@pytest.mark.parametrize(
    ("question", "expected", "answer", "right"),
    [
        ("How many kilometres does the train travel?", "5 km", "5", True),
        ("How many kilometres does the train travel?", "5 km", "5 m", False),
        ("How many kilometres does the train travel?", "5", "5 m", False),
        ("How many kilometres does the train travel?", "5", "5000 m", True),
        ("How many metres does the train travel?", "5 km", "5", False),
        ("How far does the train travel?", "5 km", "5", False),
        ("What is the speed (in m/s)?", "10 m/s", "The answer is 10.", True),
        ("What is the area in square centimetres?", "12 cm^2", "12", True),
        ("What is the area in cm²?", "12 cm", "12", False),
        ("What is the volume in cm^3?", "1000", "1 L", True),
        ("What is the volume in cm^3?", "1000 cm", "1000", False),
        ("How many red apples are left?", "5 apples", "5", True),
        ("How many oranges are left?", "5 apples", "5", False),
        ("How many minutes is that?", "2 hours 30 minutes", "150", True),
        ("How many minutes is that?", "150", "2 hours 30 minutes", True),
        ("How long is that?", "150", "2 hours 30 minutes", False),
        ("How many cents?", "25", "$0.25", True),
        ("What is it in degrees Celsius?", "20 °C", "20", True),
        ("Is it in km or in m?", "8 km", "8", False),
        ("How many km?", "5 km", "about 5", False),
    ],
)
def test_a_question_may_name_the_unit(question: str, expected: str, answer: str, right: bool) -> None:
    assert judge(expected, answer, question=question) is right


def test_a_type_that_is_none_is_named() -> None:
    assert declared_type({}) is None
    assert declared_type({"answer_type": "date"}) is AnswerType.DATE
    with pytest.raises(ValueError, match=r"answer_type 'nmuber' is none of number, quantity, .*code_output"):
        declared_type({"answer_type": "nmuber"})


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("number", "Paris"), ("date", "42"), ("choice", "Paris"), ("set", "7"), ("sequence", "x"), ("quantity", "much")],
)
def test_what_a_declared_type_cannot_be(kind: str, expected: str) -> None:
    assert not fits(expected, AnswerType(kind))


WORK = [
    "9**9**9**9",
    "10^{10^{10^{10}}}",
    "2^{100000000}",
    "(((((((((1+x)^{40})^{40})^{40})^{40})^{40})^{40})^{40})^{40})^{40}",
    "(a+b+c+d+e+f+g)^{39}",
    "(a+b+c+d)^9(a+b+c-d)^9(a+b-c+d)^9",
    "999999999999!",
    "(((5!)!)!)!",
    "\\binom{1000000}{500000}",
    "\\sqrt{" * 100 + "2" + "}" * 100,
    "(" * 900 + "1" + ")" * 900,
    "\\frac" * 300,
    "{" * 1900,
    "|" * 1900,
    "-" * 1900 + "1",
    "1" * 1990,
    "\\sqrt{" + "7" * 290 + "}",
    "9" * 280 + "^{40}",
    "1e400" + "*1e400" * 100,
    "1e999999999",
    "\\sin(" * 25 + "10^{300}" + ")" * 25,
    "e^{e^{e^{e^{e^{9}}}}}",
    "\\ln(" * 20 + "9" + ")" * 20,
    "x^{x^{x^{x^{x}}}}" * 8,
    "+".join(f"\\sqrt{{{n}}}" for n in range(2, 150)),
    "(" + "+".join(f"\\sqrt{{{n}}}" for n in (2, 3, 5, 7, 11, 13, 17, 19)) + ")^{20}",
    ",".join(["1"] * 900),
    ", ".join(f"x={n}" for n in range(300)),
    "\\begin{pmatrix}" + "&".join(["1"] * 500) + "\\end{pmatrix}",
    "\\boxed{" * 200 + "1" + "}" * 200,
    "$" * 1999,
    "**" * 900,
    "the answer is " * 140,
    "so, " * 480,
    "1 " * 900,
    "1/" * 900,
    "1:" * 900,
    "a-" * 900,
    "(" * 300 + "," * 300 + ")" * 300,
    "one hundred " * 150,
    "not " * 490,
    "5 " + "kg " * 600,
    "\\text{" * 300,
    "42 " + "\\, " * 600,
    " " * 1990 + "x",
    "\\left(" * 300,
    "x = " * 480,
    "1 < " * 480,
    "[1,2)\\cup" * 200,
    "1" * 240 + "." + "1" * 240 + "...",
    "\\textcolor{red}{" * 90,
    "$ " * 900,
    "1 ≈ " * 400 + "1",
    "e^{e^{e^{9}}} \\approx 3",
    "H2+" * 500 + "->",
    "\\mathbf{i}+" * 150,
    ", ".join(["(\\sqrt{2}+\\sqrt{3}+\\sqrt{5}+\\sqrt{7}+\\sqrt{11}+\\sqrt{13}+\\sqrt{17})^{20}"] * 2) + ", 1",
    " = ".join(["(\\sqrt{2}+\\sqrt{3}+\\sqrt{5}+\\sqrt{7}+\\sqrt{11}+\\sqrt{13}+\\sqrt{17})^{20}"] * 7),
]


@pytest.mark.parametrize(
    "expected", ["42", "5 km", "x^2-1", "\\sin 2x", "\\{1,2\\}", "(3,4)", "B", "Paris", "2024-03-01"]
)
def test_hostile_answers_are_wrong_and_cost_little(expected: str) -> None:
    """By counted work in the algebra, and seconds that are many times what it takes."""
    import time

    for answer in WORK:
        started = time.process_time()
        assert not judge(expected, answer), answer[:60]
        assert time.process_time() - started < 3, answer[:60]
        judge(answer, answer[::-1])  # neither does a hostile expected answer cost more
        assert time.process_time() - started < 6, answer[:60]


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_gets_a_verdict(expected: str, answer: str) -> None:
    assert judge(expected, answer) in (True, False)
    if expected.strip() and "?" not in expected:
        assert judge(expected, expected)


SCRAPS = (
    "1 2 42 x y + - * / ^ ( ) { } \\frac \\sqrt , = \\pi ! % $ | [ ] km or not \\text{ . < \\pm \\cup A :",
    "__ \\boxed{ \\begin{pmatrix} & \\\\ ** is",
)
ALPHABET = st.sampled_from([" ", *(scrap for line in SCRAPS for scrap in line.split())])


@given(st.lists(ALPHABET, max_size=25), st.sampled_from(["42", "x+1", "5 km", "1,2", "[1,2)", "B", "3:30 PM"]))
def test_any_formula_gets_a_verdict(parts: list[str], expected: str) -> None:
    text = "".join(parts)
    assert judge(expected, text) in (True, False)
    assert judge(text, expected) in (True, False)


@given(st.recursive(
    st.sampled_from(["x", "y", "2", "3", "5"]),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({''.join(parts)})"),
    max_leaves=7,
))  # fmt: skip
def test_algebra_agrees_with_arithmetic(text: str) -> None:
    """Polynomials are equal to zero exactly where they vanish on more points than their degree."""
    difference = quotient_of(Algebra(), parse_formula(f"{text}-({text.replace('x', 'y')})"))
    values = [eval(text, {"x": x, "y": y}) - eval(text, {"x": y, "y": y}) for x in range(8) for y in range(20, 28)]
    assert (not difference.above) == (not any(values))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("\\sqrt{12}+\\sqrt{27}", "5\\sqrt{3}"),
        ("\\frac{1}{\\sqrt{3}-\\sqrt{2}}", "\\sqrt{3}+\\sqrt{2}"),
        ("\\sqrt[3]{54}", "3\\sqrt[3]{2}"),
        ("\\sqrt{3+2\\sqrt{2}}", "1+\\sqrt{2}"),
        ("\\log_4 8", "\\frac{3}{2}"),
        ("\\ln\\sqrt{e}", "1/2"),
        ("\\tan\\frac{\\pi}{3}", "\\sqrt{3}"),
        ("\\cos 120^\\circ", "-\\frac{1}{2}"),
        ("\\cos^2 x - \\sin^2 x", "\\cos 2x"),
        ("2^{n+3}", "8\\cdot 2^n"),
        ("4^x", "2^{2x}"),
        ("(2+i)(2-i)", "5"),
        ("\\frac{x^3-1}{x-1}", "x^2+x+1"),
        ("\\binom{5}{2}", "10"),
        ("\\frac{n!}{n!}", "1"),
        ("|{-3}|", "3"),
    ],
)
def test_equal_formulas(left: str, right: str) -> None:
    assert judge(left, right, AnswerType.EXPRESSION)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("\\sqrt{2}", "1.41421356237309504880168872420969807856967187537694"),
        ("\\pi", "\\pi+10^{-200}"),
        ("\\sin 1", "\\sin 1 + 10^{-200}"),
        ("\\sin 1", "\\sin(1 + 10^{-200})"),
        ("\\sin x", "\\sin x + e^{-100}"),
        ("\\sqrt{x^2}", "x"),
        ("|x|", "x"),
        ("\\log x", "\\ln x"),
        ("x_1+x_2", "x_1+x_3"),
        ("f(x)", "f(y)"),
        ("a^{bc}", "a^{b}c"),
        ("-x^2", "(-x)^2"),
        ("2^{3x}", "2^3x"),
        ("\\frac{1}{0}", "\\frac{2}{0}"),
    ],
)
def test_formulas_that_only_look_equal(left: str, right: str) -> None:
    assert not judge(left, right, AnswerType.EXPRESSION)


@pytest.mark.parametrize(
    "text", ["Paris", "no", "A1", "H2O", "x y", "1 2", "2(", ")", "", "\\unknown{2}", "2**", "a.b", "__"]
)
def test_words_and_scraps_are_no_formulas(text: str) -> None:
    with pytest.raises(NotAFormulaError):
        parse_formula(text)
