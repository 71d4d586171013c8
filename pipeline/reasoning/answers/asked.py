"""The unit that a question asks for: a bare number is in it, and a number in another unit is converted to it."""

from __future__ import annotations

import re
from functools import lru_cache

from pipeline.reasoning.answers.quantities import Quantity
from pipeline.reasoning.answers.units import Unit, read_unit

__all__ = ["asked_unit", "names_unit"]

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
