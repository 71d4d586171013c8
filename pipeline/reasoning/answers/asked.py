"""What a question asks for: a unit, in which bare numbers are and to which others convert; values in any order."""

from __future__ import annotations

import re
from functools import lru_cache

from pipeline.reasoning.answers.quantities import Quantity
from pipeline.reasoning.answers.units import Unit, read_unit

__all__ = ["asked_unit", "asks_for_all", "names_unit"]

LONGEST = 4_000
"""Characters at the end of a question that are looked through."""
_ASKED = re.compile(
    r"(?:\b(?:how (?:many|much)|(?:number|measured|expressed|answer|give\w*|units?) (?:of|in)|in(?: units? of)?)\s+"
    r"|\((?!in\b))"
    r"((?:(?:square|cubic|degrees?) )?[A-Za-z\\/^²³·°%{}-](?:[A-Za-z\\/^²³·°%{}-]|(?<=[\^{-])[23]){0,23}"
    r"(?: per [A-Za-z]+)?(?: (?:squared|cubed)\b)?)",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"\bhow (?:many|much)\s+((?:[A-Za-z-]+\s+){0,3}[A-Za-z-]+)", re.IGNORECASE)
_ALL = re.compile(
    r"\b(?:all|both|every|each)\b[^.?!]{0,60}?\b(?:solutions?|roots?|zeros?|values?|numbers?|integers?|primes?|[a-z]\b)"
    r"|\bsolve\b|\b(?:the|its|two|real|complex) (?:solutions|roots|zeros|x-intercepts|factors|divisors)\b",
    re.IGNORECASE,
)
_IN_ORDER = re.compile(
    r"\b(?:order\w*|ascending|descending|increasing|decreasing|respectively|next|sequence|sort\w*|arrange\w*|rank\w*"
    r"|from (?:the )?(?:least|smallest|greatest|largest|lowest|highest)|pairs?|triples?|coordinates?|terms?)\b",
    re.IGNORECASE,
)


def asks_for_all(question: str) -> bool:
    """Whether several values are asked for of which none comes first: all solutions of an equation."""
    return _ALL.search(question) is not None and _IN_ORDER.search(question) is None


def names_unit(question: str, quantity: Quantity) -> bool:
    """Whether the question asks for a number in just the unit, or of just the things, of `quantity`."""
    if quantity.unit is not None:
        return asked_unit(question, quantity.unit) == quantity.unit
    noun = quantity.thing.split()[-1:]
    return any(word.rstrip("s") == noun[0].rstrip("s") for words in _things(question) for word in words if noun)


def asked_unit(question: str, like: Unit) -> Unit | None:
    """The only unit that the question asks for and that measures what `like` does, or None."""
    found = {unit for unit in _units(question) if unit.powers == like.powers}
    return found.pop() if len(found) == 1 else None


@lru_cache(1024)
def _units(question: str) -> tuple[Unit, ...]:
    texts = (found[1] for found in _ASKED.finditer(question[-LONGEST:]))
    return tuple(unit for text in texts if (unit := read_unit(text.replace("²", "^2").replace("³", "^3"))) is not None)


def _things(question: str) -> list[list[str]]:
    """The words that follow "how many", as far as a noun may stand."""
    return [found[1].lower().split() for found in _COUNTED.finditer(question[-LONGEST:])]
