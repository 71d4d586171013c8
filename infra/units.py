"""Numbers and foreign text as people read them: 12.3 k documents, 4.9 M parameters, 3.2 MB, 1 m 12 s."""

from __future__ import annotations

import math
import re
import unicodedata

from infra.errors import UserError

__all__ = [
    "count",
    "decimal",
    "duration",
    "percent",
    "plural",
    "printable",
    "read_size",
    "shorten",
    "size",
    "written_out",
]

_THOUSANDS = ("", "k", "M", "G", "T", "P")
_UNREADABLE = {"Cc", "Cs", "Co", "Cn"}
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def count(value: float) -> str:
    """A number of things: ``1,960``, ``12.3 k``, ``4.9 M``."""
    if abs(value) < 9_999.5:
        return f"{value:,.0f}"
    return _scaled(value, _THOUSANDS)


def size(value: float) -> str:
    """A number of bytes, in powers of a thousand: ``812 B``, ``3.2 MB``."""
    return _scaled(value, tuple(f"{prefix}B" for prefix in _THOUSANDS), always=True)


def read_size(text: str) -> int:
    """Bytes of ``64MB``, ``1.5 GB`` or ``64MiB``: powers of a thousand, or of 1024 with the ``i``.

    Raises:
        UserError: it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)B?\s*", text, re.IGNORECASE)
    if match is None or (match[3] and not match[2]):
        raise UserError(f"{text}: not a number of bytes; write it as 64MB, 1.5GB or 64MiB")
    power = "KMGTP".find(match[2].upper()) + 1 if match[2] else 0
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def written_out(text: str) -> float | None:
    """The number that somebody means by ``10k``, ``5 GB``, ``64MiB``, ``1,000`` or ``50%``, or None."""
    number = r"([-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d{1,3})?)"
    match = re.fullmatch(rf"\s*{number}\s*(?:(%)|([KMGTP]?)(i?)B?)\s*", text, re.IGNORECASE)
    if match is None or (match[4] and not match[3]):
        return None
    power = "KMGTP".find(match[3].upper()) + 1 if match[3] else 0
    return float(match[1].replace(",", "")) * (0.01 if match[2] else (1024 if match[4] else 1000) ** power)


def _scaled(value: float, units: tuple[str, ...], *, always: bool = False) -> str:
    if not math.isfinite(value):
        return "?"
    place = 0
    # 999.95 is the least number that one decimal would show as 1000.0.
    while abs(value) >= (999.5 if place == 0 else 999.95) and place + 1 < len(units):
        value /= 1000
        place += 1
    text = f"{value:.0f}" if place == 0 or abs(value) >= 99.95 else f"{value:.1f}"
    return f"{text} {units[place]}" if units[place] and (place or always) else text


def duration(seconds: float, *, estimated: bool = False) -> str:
    """A time: ``0.4 s``, ``12 s``, ``1 m 12 s``, ``2 h 05 m``, ``3 d 04 h``; an estimate without tenths of a second."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 9.95 and not estimated:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02} h"
    if hours:
        return f"{hours} h {minutes:02} m"
    return f"{minutes} m {rest:02} s" if minutes else f"{rest} s"


def percent(share: float) -> str:
    """A share of one: ``47 %``, ``0.3 %``; never rounded to all or nothing."""
    if not math.isfinite(share):
        return "?"
    value = 100 * share
    near_an_end = 0 < value < 1 or 99 < value < 100
    return f"{value:.1f} %" if near_an_end else f"{value:.0f} %"


def decimal(value: float) -> str:
    """A loss, a divergence, a rate: three significant digits, or two decimals from one upwards."""
    if not math.isfinite(value):
        return "?"
    if value == 0 or 1 <= abs(value) < 10_000:
        return f"{value:.2f}" if value else "0"
    return f"{value:.3g}" if abs(value) < 1 else count(value)


def plural(number: float, word: str) -> str:
    """``1 document``, ``12.3 k documents``."""
    return f"{count(number)} {word}{'' if number == 1 else 's'}"


def printable(text: object) -> str:
    """Text from a corpus or a model without what would steer a terminal, or hide what it says: control characters,
    lone surrogates, changes of writing direction. Line ends and tabs stay."""
    return "".join(
        "\ufffd" if (unicodedata.category(char) in _UNREADABLE and char not in "\n\t") or char in _DIRECTION else char
        for char in str(text)
    )


def shorten(text: object, length: int) -> str:
    """Printable text on one line of at most `length` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= length else f"{line[: max(length - 1, 0)].rstrip()}…"
