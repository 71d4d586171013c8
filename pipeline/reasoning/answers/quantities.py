"""Reads a number with what it counts: a unit, a percent sign, a currency, or a thing (``18 apples``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pipeline.reasoning.answers.doubt import DOUBTFUL
from pipeline.reasoning.answers.numbers import read_number
from pipeline.reasoning.answers.splitting import word_set
from pipeline.reasoning.answers.units import CURRENCY_SIGNS, SCALE_WORDS, Unit, read_unit

__all__ = ["Quantity", "read_quantity"]


@dataclass(frozen=True)
class Quantity:
    """A value and its unit."""

    value: str
    """The number or formula before the unit, as it is written."""
    unit: Unit | None = None
    thing: str = ""
    """What is counted, where it is no unit."""

    @property
    def number(self) -> Fraction | None:
        """The value, where it is a plain number."""
        return read_number(self.value)

    @property
    def is_percent(self) -> bool:
        """Whether the unit is a percent sign."""
        return self.unit is not None and self.unit.powers == (("percent", 1),)

    @property
    def is_angle(self) -> bool:
        """Whether the unit is the degree of angles."""
        return self.unit is not None and self.unit.powers == (("degree", 1),)

    @property
    def is_money(self) -> bool:
        """Whether the unit is a currency."""
        return self.unit is not None and self.unit.powers in tuple(((name, 1),) for name in CURRENCY_SIGNS.values())


_CURRENCY = re.compile(r"([-+]?)\s*(?:\\?([$€£¥₹])|(?:US|USD)\s*\\?\$?\s?(?=\d))\s*(.+)", re.DOTALL)
_MONEY_WORDS = re.compile(r"\s*(?:dollars?|USD|euros?|EUR|pounds?|GBP|US dollars?)$", re.IGNORECASE)
_THING = re.compile(r"(?:[A-Za-z]+[- ]){0,2}(?P<noun>[A-Za-z]{3,})")
_IRREGULAR = word_set("people men women children mice geese feet teeth sheep fish deer dice percent points")
_NEVER_COUNTED = (
    word_set(
        "yes always is was as this thus its his nonsense sometimes afterwards besides approximates does has equals "
        "misses lies fails equations solutions answers possibilities digits of"
    )
    | DOUBTFUL
    | SCALE_WORDS
)


def read_quantity(text: str) -> Quantity | None:
    """The quantity that all of `text` writes, or None."""
    text = text.strip()
    if len(text) > 300:
        return None
    money = _CURRENCY.fullmatch(text)
    if money is not None:
        sign = CURRENCY_SIGNS.get(money[2] or "$", "usd")
        return Quantity(money[1] + _MONEY_WORDS.sub("", money[3]), read_unit(sign))
    if text.endswith(tuple("€£¥₹")) or text.endswith("\\$"):
        return Quantity(text[:-1].rstrip("\\ "), read_unit(CURRENCY_SIGNS[text[-1]]))
    for found in _splits(text):
        unit = read_unit(found[1])
        if unit is not None:
            return Quantity(found[0], unit)
    for value, tail in _splits(text):
        thing = _thing(tail)
        if thing and read_number(value) is not None:
            return Quantity(value, thing=thing)
    return None


def _splits(text: str) -> list[tuple[str, str]]:
    """Where the unit may begin."""
    found = []
    for match in re.finditer(r"(?:(?<=[\d})!])|(?<=\\pi)|(?<=[A-Za-z])(?=\s))(?:\\[,;:! ]|\s)*(?=[A-Za-z\\%^])", text):
        value, tail = text[: match.start()].strip(), text[match.end() :].strip()
        if value and tail:
            found.append((value, tail))
    return found[:40]


def _thing(tail: str) -> str:
    """The counted thing in a normal form, or nothing."""
    tail = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", tail)
    tail = " ".join(tail.split())
    found = _THING.fullmatch(tail)
    words = re.findall(r"[a-z]+", tail.lower())
    if found is None or any(word in _NEVER_COUNTED for word in words):
        return ""
    noun = found["noun"].lower()
    is_counted = (noun.endswith("s") and not noun.endswith(("ss", "us", "is", "ous"))) or noun in _IRREGULAR
    return " ".join(words) if is_counted else ""
