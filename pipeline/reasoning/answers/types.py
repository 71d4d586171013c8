"""The types that an answer may have."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

__all__ = ["AnswerType", "declared_type"]


class AnswerType(StrEnum):
    """What an expected answer is, which decides what counts as the same answer."""

    NUMBER = "number"
    """A rational number in any notation; a percentage."""
    QUANTITY = "quantity"
    """A number with a unit, a currency, or a thing counted."""
    EXPRESSION = "expression"
    """Algebra, an equation, an inequality, an interval, a matrix."""
    SET = "set"
    """Values in any order."""
    SEQUENCE = "sequence"
    """Values in this order: a tuple, a vector, a list, a ratio."""
    CHOICE = "choice"
    """The letter of one choice among several."""
    TEXT = "text"
    """Words, and all that only looks like mathematics: versions, addresses, formulas of chemistry."""
    DATE = "date"
    """A day, or a time of the day."""
    CODE_OUTPUT = "code_output"
    """What a program prints: white space at the ends of lines and of the whole aside, to the letter."""


def declared_type(record: Mapping[str, Any]) -> AnswerType | None:
    """The `answer_type` that a record declares.

    Raises:
        ValueError: it names no type; the message says which there are.
    """
    given = record.get("answer_type")
    if given is None:
        return None
    try:
        return AnswerType(given)
    except ValueError:
        raise ValueError(f"answer_type {given!r} is none of {', '.join(AnswerType)}") from None
