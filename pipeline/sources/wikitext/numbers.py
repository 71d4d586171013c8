"""Numbers and names as CLDR has them for the language of a wiki: digits in groups, fractions, powers, countries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import cache

from babel import Locale, UnknownLocaleError
from babel.core import get_global
from babel.numbers import format_decimal

__all__ = ["country", "fraction", "grouped", "locale_of", "raised", "scientific", "ungrouped"]

_NUMBER = re.compile(r"([-+\u2212]?)([0-9]{1,60})(?:\.([0-9]{0,60}))?")
_RAISED = str.maketrans("0123456789+-\u2212n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻ⁿ")
_FEW = frozenset({"bg", "es", "pl", "pt"})
"""Languages whose wikis group from five digits on (CLDR's minimumGroupingDigits 2)."""


_LOCALES = {
    "als": "gsw",
    "sh": "sr-Latn",
    "simple": "en",
    "zh-yue": "yue",
    "bat-smg": "lt",
    "map-bms": "jv",
    "arz": "ar",
}
"""Wikis whose code is no language's, or another one's."""


@cache
def locale_of(language: str) -> Locale:
    """The locale of a wiki's language, English where CLDR knows none."""
    for code in (_LOCALES.get(language, language), language.partition("-")[0]):
        try:
            return Locale.parse(code.replace("-", "_"))
        except (UnknownLocaleError, ValueError):
            continue
    return Locale("en")


def country(code: str, language: str) -> str:
    """What a language calls a country, by the three capital letters of its ISO code; "" if that is none."""
    two: Sequence[str] = get_global("territory_aliases").get(code, ()) if len(code) == 3 and code.isupper() else ()
    return str(locale_of(language).territories.get(two[0], "")) if len(two) == 1 else ""


def grouped(text: str, language: str) -> str:
    """A number as `{{formatnum:}}` shows it; what is no number stays as it is."""
    number = _NUMBER.fullmatch(text.strip())
    if not number:
        return text
    sign, whole, decimals = number.groups()
    symbols = locale_of(language).number_symbols["latn"]
    short = language in _FEW and len(whole) < 5
    shown = whole if short or whole[0] == "0" else format_decimal(Decimal(whole), locale=locale_of(language))
    return f"{sign.replace('-', '−')}{shown}{symbols['decimal'] + decimals if decimals else ''}"


def ungrouped(text: str, language: str) -> str:
    """A number as `{{formatnum:|R}}` shows it."""
    symbols = locale_of(language).number_symbols["latn"]
    return text.replace(symbols["group"], "").replace(symbols["decimal"], ".").replace("−", "-")


def raised(text: str) -> str:
    """Digits as superscripts, so that 10⁶ stays other than 106."""
    return text.translate(_RAISED)


def scientific(exponent: str) -> str:
    """The power of ten after a number."""
    return f"×10{raised(exponent.strip())}"


def fraction(parts: list[str]) -> str:
    """`{{frac}}` with its one to three arguments: 1⁄n, a⁄b, w a⁄b."""
    if len(parts) == 1:
        return f"1⁄{parts[0]}"
    *whole, above, below = parts[:3]
    return f"{whole[0] + ' ' if whole and whole[0] else ''}{above}⁄{below}"
