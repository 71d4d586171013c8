"""Reads a number with what it counts: a unit, a percent sign, a currency, or a thing (``18 apples``)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from pipeline.reasoning.answers.doubt import DOUBTFUL
from pipeline.reasoning.answers.formulas import formula
from pipeline.reasoning.answers.numbers import read_number
from pipeline.reasoning.answers.splitting import word_set
from pipeline.reasoning.answers.syntax import names
from pipeline.reasoning.answers.units import CURRENCIES, CURRENCY_SIGNS, SCALE_WORDS, Unit, read_unit

__all__ = ["Quantity", "read_quantity"]


@dataclass(frozen=True)
class Quantity:
    """A value and its unit."""

    value: str
    """The number or formula before the unit, as it is written."""
    unit: Unit | None = None
    thing: str = ""
    """What is counted, where it is no unit."""
    is_compound: bool = False
    """Whether it is written in several units, so that its value is no number of the text."""

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
    def is_abstract(self) -> bool:
        """Whether the unit is only called one, or a square or a cube of it: ``8 square units``."""
        return self.unit is not None and [name for name, _ in self.unit.powers] == ["unit"]

    @property
    def is_year(self) -> bool:
        """Whether it is a year of our era."""
        return self.thing == "ad"

    @property
    def is_money(self) -> bool:
        """Whether the unit is a currency."""
        return self.unit is not None and self.unit.powers in _MONEY


_MONEY = tuple(((name, 1),) for name in CURRENCIES)
_CODES = {word: unit for unit, words in CURRENCIES.items() for word in words.split() if re.fullmatch("[A-Z]{3}", word)}
_CURRENCY = re.compile(
    rf"([-+]?)\s*(?:(?:US)?\\?(R?\$|[{''.join(sign for sign in CURRENCY_SIGNS if len(sign) == 1)}])"
    rf"|(Rs)\.?|({'|'.join(_CODES)}|US)\s*\\?\$?\s?(?=\d))\s*(.+)",
    re.DOTALL,
)
_RATE = re.compile(r"\s*(?:(?:per|an?|each)\s+|/\s*)([A-Za-z]+)$|\s+(each|apiece)$", re.IGNORECASE)
"""``$18 per week``: what a price is asked for."""
_ERA = re.compile(r"(?:AD )?(\d{1,4})(?: ?(?:AD|CE|A\.D\.?|C\.E\.?))?")
_MEASURED = re.compile(
    r"(?<=[a-z]) (?:old|of age|long|wide|tall|high|deep|thick|apart|away)$"
    r"|(?<=[a-z]) (?:in total|in all|altogether|left|remaining)$"
)
"""What a length or an age is of, and that there is no more."""
_PARTS = {"half": "1/2", "a half": "1/2", "a quarter": "1/4", "quarter": "1/4", "three quarters": "3/4"}
_PART_OF_UNIT = re.compile(rf"({'|'.join(_PARTS)}|\d+/\d+) (?:of )?an? (?=\S)", re.IGNORECASE)
"""``half an hour``."""
_AND_A_HALF = re.compile(r"(\d+|an?) ([a-z]{3,}) and a half")
"""``an hour and a half``."""
_PRIMES = re.compile(r"(-?\d+(?:\.\d+)?)\s*(?:(?P<inches>\"|'')|')")
_OF_ANGLE = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)\b")
_SUFFIX = re.compile(r"(\d)\s?([kKMB])")
_LARGE = {"k": "thousand", "K": "thousand", "M": "million", "B": "billion"}
_COMPOUND = re.compile(r"-?(?:\d+(?:\.\d+)?\s*[A-Za-z]+\.?(?:,?\s+and\s+|,\s*|\s*)){2,4}")
_ANGLE = re.compile(
    r"(-?\d+)\s*\^\s*\{?\s*\\circ\s*\}?\s*(\d+(?:\.\d+)?)\s*(?:'|\^\s*\{?\s*\\prime\s*\}?)"
    r"(?:\s*(\d+(?:\.\d+)?)\s*(?:\"|''|\^\s*\{\s*\\prime\s*\\prime\s*\}))?"
)
_COMPOUND_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")
_MONEY_WORDS = re.compile(r"\s*(?:dollars?|USD|euros?|EUR|pounds?|GBP|US dollars?)$", re.IGNORECASE)
_THING = re.compile(r"(?:[A-Za-z]+[- ]){0,2}(?P<noun>[A-Za-z]{3,})")
_SAME_THING = {"persons": "people"}
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
    text = _MEASURED.sub("", text.strip())
    if len(text) > 300:
        return None
    if (part := _PART_OF_UNIT.match(text)) is not None:
        text = f"{_PARTS.get(part[1].lower(), part[1])} {text[part.end() :]}"
    if (half := _AND_A_HALF.fullmatch(text)) is not None:
        text = f"{half[1] if half[1].isdecimal() else 1}.5 {half[2]}"
    if (prime := _PRIMES.fullmatch(text)) is not None:
        return Quantity(prime[1], read_unit("in" if prime["inches"] else "ft"))
    money = _CURRENCY.fullmatch(text)
    if money is not None:
        currency = CURRENCY_SIGNS.get(money[2] or money[3]) or _CODES.get(money[4], "usd")
        return _price(money[1], currency, _MONEY_WORDS.sub("", money[5]))
    if (compound := _compound(text)) is not None:
        return compound
    if text.endswith(tuple("€£¥₹₩₽₱₺฿₫₪₦$")):
        return Quantity(text[:-1].rstrip("\\ "), read_unit(CURRENCY_SIGNS[text[-1]]))
    if (era := _ERA.fullmatch(text)) is not None and not text.isdecimal():
        return Quantity(era[1], thing="ad")
    for found in _splits(text):
        unit = read_unit(found[1])
        if unit is not None and not (unit.powers == (("degree", 1),) and _OF_ANGLE.search(found[0])):
            return Quantity(found[0], unit)
    for value, tail in _splits(text):
        thing = _thing(tail)
        if thing and (read_number(value) is not None or _is_worked_out(value)):
            return Quantity(value, thing=thing)
    return None


def _is_worked_out(text: str) -> bool:
    r"""Whether a formula counts something: ``5!``, ``\binom{5}{2}``."""
    tree = formula(text) if text[-1:] in "!})" else None
    return tree is not None and not names(tree)


def _price(sign: str, currency: str, amount: str) -> Quantity:
    """What stands after the sign of a currency: a number, maybe short (``3M``), maybe a rate."""
    unit = read_unit(currency)
    rate = _RATE.search(amount)
    if rate is not None and unit is not None:
        amount = amount[: rate.start()]
        per = (rate[1] or "one").lower()
        unit = read_unit(f"{currency} per {per}") or Unit(unit.factor, (*unit.powers, (f"per {per}", 1)))
    if (short := _SUFFIX.fullmatch(amount[-2:])) is not None:
        amount = f"{amount[:-1]} {_LARGE[short[2]]}"
    return Quantity(sign + amount, unit)


def _compound(text: str) -> Quantity | None:
    """``2 hours 30 minutes``, ``5 ft 6 in``, in the last unit; each is smaller than the one before."""
    text = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1 ", re.sub(r"\\[,;:! ]", " ", text)).strip()
    text = re.sub(r"(\d)\s*(?:'|\u2032)\s*(\d+(?:\.\d+)?)\s*(?:\"|'')$", r"\1 ft \2 in", text)
    if (angle := _ANGLE.fullmatch(text)) is not None:
        text = f"{angle[1]} degree {angle[2]} arcmin" + (f" {angle[3]} arcsec" if angle[3] else "")
    if _COMPOUND.fullmatch(text) is None:
        return None
    total, last = Fraction(0), None
    for number, name in _COMPOUND_PART.findall(text):
        unit = read_unit("min" if name == "m" and last == read_unit("h") else name)
        if unit is None or (last is not None and (unit.powers != last.powers or unit.factor >= last.factor)):
            return None
        if last is not None and Fraction(number) * unit.factor >= last.factor:
            return None
        total, last = total + Fraction(number) * unit.factor, unit
    if last is None:
        return None
    if last.powers in _MONEY:  # dollars and cents are told in dollars
        last = Unit(Fraction(1), last.powers)
        return Quantity(f"{total.numerator}/{total.denominator}", last)
    value = total / last.factor
    return Quantity(
        f"{'-' if text.startswith('-') else ''}{value.numerator}/{value.denominator}", last, is_compound=True
    )


def _splits(text: str) -> list[tuple[str, str]]:
    """Where the unit may begin."""
    found = []
    for match in re.finditer(
        r"(?:(?<=[\d})!])|(?<=\\pi)|(?<=[A-Za-z])(?=\s))(?:\\[,;:! ]|\s)*(?=[A-Za-z\\%^¢円元])", text
    ):
        value, tail = text[: match.start()].strip(), text[match.end() :].strip()
        if value and tail:
            found.append((value, tail))
    return found[:40]


def _thing(tail: str) -> str:
    """The counted thing in a normal form, also with what it is of (``cups of flour``), or nothing."""
    tail = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", tail)
    tail, of, substance = " ".join(tail.split()).partition(" of ")
    found = _THING.fullmatch(tail)
    words, others = (re.findall(r"[a-z]+", part.lower()) for part in (tail, substance))
    if found is None or any(word in _NEVER_COUNTED for word in words + others):
        return ""
    if of and re.fullmatch(r"[A-Za-z]+(?: [A-Za-z]+){0,2}", substance) is None:
        return ""
    noun = found["noun"].lower()
    is_counted = (noun.endswith("s") and not noun.endswith(("ss", "us", "is", "ous"))) or noun in _IRREGULAR
    words = [_SAME_THING.get(word, word) for word in words]
    return " ".join([*words, *(["of", *others] if of else [])]) if is_counted else ""
