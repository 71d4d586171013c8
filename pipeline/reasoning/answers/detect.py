"""Finds the type of an expected answer that declares none."""

from __future__ import annotations

import re
from functools import lru_cache

from pipeline.reasoning.answers import formulas
from pipeline.reasoning.answers.boxes import unboxed
from pipeline.reasoning.answers.budget import bounded
from pipeline.reasoning.answers.choices import read_choice
from pipeline.reasoning.answers.congruences import read_congruence
from pipeline.reasoning.answers.dates import read_date
from pipeline.reasoning.answers.intervals import Interval, read_intervals
from pipeline.reasoning.answers.lists import are_conjugate, is_ascending, read_listing
from pipeline.reasoning.answers.matrices import read_matrix
from pipeline.reasoning.answers.normalise import LONGEST, mathematical, peel, split_label, spoken
from pipeline.reasoning.answers.numbers import read_number
from pipeline.reasoning.answers.quantities import read_quantity
from pipeline.reasoning.answers.syntax import names
from pipeline.reasoning.answers.text import is_chemical, read_truth
from pipeline.reasoning.answers.types import AnswerType

__all__ = ["find_type"]

_CODES = re.compile(
    r"v?\d+(?:\.\d+){2,}\w*|v\d[\w.-]*|\d+(?:-\d+)+|\+?\(?\d{2,4}\)?[- ]\d{2,4}[- ]\d{2,4}|\d+(?:st|nd|rd|th)"
    r"|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,}|\S+@\S+|https?://\S+|#\S+|0[xb][0-9a-fA-F]+",
    re.IGNORECASE,
)
"""Versions, addresses, scores, telephone numbers, ordinals: digits that are no number."""
_NUMERAL = r"(?:0|[1-9]\d*)(?:\.\d+)?"
_RATIO = re.compile(rf"{_NUMERAL}(?:\s*:\s*{_NUMERAL}){{1,5}}")
_CHOICE = re.compile(r"\(?[A-Z]\)?\.?|[(\[]?[A-Z](?:[)\]][.:]?|[.:])\s+\S.*", re.DOTALL)


@lru_cache(4096)
def find_type(expected: str) -> AnswerType:
    """The type of an answer, from its text alone."""
    with bounded():
        return _find_type(unboxed(expected))


def _find_type(expected: str) -> AnswerType:
    label, value = split_label(expected)
    if label:
        kind = _find_type(value)
        is_value = kind in (AnswerType.NUMBER, AnswerType.QUANTITY) or (
            kind is AnswerType.EXPRESSION and _is_root(value)
        )
        return kind if is_value else AnswerType.TEXT
    words = peel(expected)
    if "\n" in words and "\\begin" not in words:
        return AnswerType.CODE_OUTPUT
    text = peel(spoken(mathematical(words)))
    if not text or len(text) > LONGEST:
        return AnswerType.TEXT
    if _CHOICE.fullmatch(words) and read_choice(words) is not None:
        return AnswerType.CHOICE
    if read_date(words) is not None:
        return AnswerType.DATE
    if "\\mathrm" in words and is_chemical(words):
        return AnswerType.TEXT
    if (_CODES.fullmatch(text) and not _RATIO.fullmatch(text)) or read_truth(words) is not None:
        return AnswerType.TEXT
    if read_number(text) is not None:
        return AnswerType.NUMBER
    quantity = read_quantity(text)
    if quantity is not None and (quantity.number is not None or formulas.formula(quantity.value) is not None):
        return AnswerType.NUMBER if quantity.is_percent else AnswerType.QUANTITY
    return _structure(text)


def _structure(text: str) -> AnswerType:
    if _RATIO.fullmatch(text) or _is_ratio(text.split(":")):
        return AnswerType.SEQUENCE
    if read_congruence(text) is not None:
        return AnswerType.EXPRESSION
    if read_matrix(text) is not None or formulas.read_in_base(text) is not None:
        return AnswerType.EXPRESSION
    intervals = read_intervals(text)
    if intervals is not None and (len(intervals) > 1 or _is_surely_interval(intervals[0])):
        return AnswerType.EXPRESSION
    listing = read_listing(text)
    if listing is not None and (listing.brackets or _are_values(listing.items)):
        return _listing_type(text)
    if formulas.read_relation(text) is not None and all(
        formulas.formula(side) is not None
        for side in formulas.read_relation(text).sides  # type: ignore[union-attr]
    ):
        return AnswerType.EXPRESSION
    return AnswerType.EXPRESSION if formulas.formula(text) is not None else AnswerType.TEXT


def _is_ratio(parts: list[str]) -> bool:
    r"""Whether they are numbers: ``1:\sqrt{3}``."""
    return 1 < len(parts) < 7 and all(formulas.value_of(part) or _is_root(part) for part in parts)


def _is_root(text: str) -> bool:
    tree = formulas.formula(text)
    return tree is not None and not names(tree) and "\\" in text


def _is_surely_interval(interval: Interval) -> bool:
    """Whether it is no pair of numbers: half open, or without an end."""
    opens, lower, upper, closes = interval
    return opens + closes not in ("()", "[]") or "\\infty" in lower + upper


def _are_values(items: tuple[str, ...]) -> bool:
    """Whether bare items between commas are a list: numbers and formulas, or single words."""
    return all(_is_value(item) for item in items) or all(re.fullmatch(r"[\w'-]+", item) for item in items)


def _is_value(item: str) -> bool:
    if read_number(item) is not None or formulas.formula(item) is not None:
        return True
    if (quantity := read_quantity(item)) is not None:
        return quantity.unit is not None and quantity.number is not None
    inner = read_listing(item)
    return (
        inner is not None and inner.brackets == "()" and all(formulas.formula(part) is not None for part in inner.items)
    )


def _listing_type(text: str) -> AnswerType:
    """Braces hold a set, brackets a sequence; bare values are a set where their order tells nothing."""
    listing = read_listing(text)
    assert listing is not None
    if listing.names and not listing.is_one_unknown:
        return AnswerType.SEQUENCE  # x = 3, y = 4
    is_set = (
        listing.brackets == "{}"
        or listing.is_alternative
        or (listing.is_one_unknown and listing.brackets in ("", "{}"))
        or (not listing.brackets and (is_ascending(listing.items) or are_conjugate(listing.items)))
    )
    return AnswerType.SET if is_set else AnswerType.SEQUENCE
