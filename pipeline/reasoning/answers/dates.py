"""Reads dates and times of the day. What may be read in two ways (``03/04/2024``) equals only what is written alike."""

from __future__ import annotations

import calendar
import datetime
import re

__all__ = ["read_date"]

_MONTHS = {
    name: number
    for number, month in enumerate(calendar.month_name)
    for name in (month.lower(), month[:3].lower())
    if month
} | {"sept": 9}
_WEEKDAY = re.compile(
    r"^(?:on )?(?:the )?(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|mon|tue|wed|thu|fri|sat|sun)\b[,.]?\s+(?=.*\d)"
)
_ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:t00:00(?::00)?z?)?")
_NUMERIC = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})")
_DAY_FIRST = re.compile(r"(?:the )?(\d{1,2})(?:st|nd|rd|th)?(?: of)?[ -]([a-z]{3,9})\.?,?(?:[ -](\d{4}))?")
_MONTH_FIRST = re.compile(r"([a-z]{3,9})\.? (?:the )?(\d{1,2})(?:st|nd|rd|th)?(?:,? (\d{4}))?")
_MONTH_YEAR = re.compile(r"([a-z]{3,9})\.?,? (?:of )?(\d{4})")
_TIME = re.compile(
    r"(?:at )?(\d{1,2})(?:[:.](\d{2}))?(?::(\d{2}))?\s*(?:(a|p)\.?\s?m\.?|(o'?clock|hrs?|hours?)?)"
    r"(?: (?:in the )?(morning|afternoon|evening))?"
)

Date = tuple[str, ...]


def read_date(text: str) -> Date | None:
    """A date or a time of the day in one form for each, or None where `text` is neither."""
    text = " ".join(text.lower().replace("\\,", " ").split()).strip(" .")
    if not text or len(text) > 60:
        return None
    return _read_day(_WEEKDAY.sub("", text)) or _read_time(text)


def _read_day(text: str) -> Date | None:
    if found := _ISO.fullmatch(text):
        return _day(found[1], found[2], found[3])
    if found := _NUMERIC.fullmatch(text):
        first, second, year = int(found[1]), int(found[3]), found[4]
        if first > 12 or second > 12 or first == second:
            day, month = (first, second) if second <= 12 else (second, first)
            return _day(year, str(month), str(day))
        return ("ambiguous", str(first), str(second), year)
    if (found := _DAY_FIRST.fullmatch(text)) and found[2] in _MONTHS:
        return _day(found[3], str(_MONTHS[found[2]]), found[1])
    if (found := _MONTH_FIRST.fullmatch(text)) and found[1] in _MONTHS:
        return _day(found[3], str(_MONTHS[found[1]]), found[2])
    if (found := _MONTH_YEAR.fullmatch(text)) and found[1] in _MONTHS:
        return ("month", found[2], str(_MONTHS[found[1]]))
    return None


def _day(year: str | None, month: str, day: str) -> Date | None:
    try:
        datetime.date(int(year or 2000), int(month), int(day))
    except ValueError:
        return None
    return ("day", year or "", str(int(month)), str(int(day)))


def _read_time(text: str) -> Date | None:
    if text in ("noon", "12 noon", "midday", "12:00 noon"):
        return ("time", "12", "0", "0")
    if text in ("midnight", "12 midnight", "12:00 midnight"):
        return ("time", "0", "0", "0")
    found = _TIME.fullmatch(text)
    if found is None or not (found[2] or found[4] or found[5] == "o'clock"):
        return None
    if "." in text and not found[4]:
        return None
    hour, minute, second = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    half = found[4] or {"morning": "a", "afternoon": "p", "evening": "p"}.get(found[6] or "", "")
    if hour > 23 or minute > 59 or second > 59 or (half and not 1 <= hour <= 12):
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    elif hour < 13 and hour and not text.startswith("0"):
        return ("half unknown", str(hour), str(minute), str(second))
    return ("time", str(hour), str(minute), str(second))
