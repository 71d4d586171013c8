"""What is set aside when texts are compared, character by character.

`Fold()` keeps everything; `FINEWEB` is datatrove's `simplify_text`, by which FineWeb found near copies. Beyond that
operators and numbers may stay, and invisible characters and other widths of a character may go.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import NamedTuple

import regex
from datatrove.utils.text import NUMBERS_PATTERN, PUNCTUATION_TRANS

__all__ = ["FINEWEB", "LOOSE", "Fold", "fold", "invisible", "marks", "punctuation", "widened"]

LOOSE = "-*/"
"""Operators before a number, and elsewhere hyphens, emphasis and slashes."""
OPERATORS = "+=<>^%" + LOOSE
"""ASCII's, which are punctuation to datatrove; the mathematical symbols beyond ASCII are none."""
_NOT_BEFORE_A_NUMBER = re.compile(rf"[{LOOSE}](?! ?[0-9])")
_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}\u0640]")
"""With the stroke that only makes Arabic words longer."""
_SPELLINGS = {"\u02bc": "'", "\u0643": "\u06a9", "\u064a": "\u06cc"}
"""Letters that have two code points: the apostrophe, and Persian kaf and yeh as Arabic keyboards write them."""
_SPACE = re.compile(r"\s+")


class Fold(NamedTuple):
    """What is set aside; each as the recipe's `dedup.foldings` says."""

    case: bool = False
    punctuation: bool = False
    operators: bool = False
    numbers: bool = False
    diacritics: bool = False
    width: bool = False


FINEWEB = Fold(case=True, punctuation=True, operators=True, numbers=True, diacritics=True)


def invisible(character: str) -> bool:
    """Whether a character is for layout alone, as a soft hyphen is."""
    return _INVISIBLE.match(character) is not None


class _Widths(dict[int, str]):
    """A table for `str.translate`, filled as it is asked: NFKC of each character, nothing for invisible ones, one of
    several spellings."""

    def __missing__(self, point: int) -> str:
        plain = unicodedata.normalize("NFKC", chr(point))
        self[point] = "" if invisible(chr(point)) else "".join(_SPELLINGS.get(sign, sign) for sign in plain)
        return self[point]


widened = _Widths()


@cache
def punctuation(operators: bool) -> dict[int, str]:
    """datatrove's table for `str.translate`, which makes spaces of punctuation; with or without operators."""
    kept = "" if operators else OPERATORS
    return {point: space for point, space in PUNCTUATION_TRANS.items() if chr(point) not in kept}


@cache
def marks() -> dict[int, None]:
    """A table for `str.translate` that deletes the combining marks (Mn)."""
    return {point: None for point in range(0x110000) if unicodedata.category(chr(point)) == "Mn"}


def fold(text: str, how: Fold) -> str:
    """The text without what is set aside, with single spaces: datatrove's `simplify_text` and more."""
    if how.punctuation and not how.operators:
        text = _NOT_BEFORE_A_NUMBER.sub(" ", text)
    if how.width:
        text = text.translate(widened)
    if how.case:
        text = text.lower()
    if how.numbers:
        text = NUMBERS_PATTERN.sub("0", text)
    if how.punctuation:
        text = text.translate(punctuation(how.operators))
    text = _SPACE.sub(" ", text.strip())
    if how.diacritics and not text.isascii():
        text = unicodedata.normalize("NFD", text).translate(marks())
    return text.strip()
