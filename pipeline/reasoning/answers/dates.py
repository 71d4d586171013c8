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
_MONTHS |= {
    name: place % 12 + 1 for place, name in enumerate((
        "januar", "februar", "märz", "april", "mai", "juni",
        "juli", "august", "september", "oktober", "november", "dezember",
        "janvier", "février", "mars", "avril", "mai", "juin",
        "juillet", "août", "septembre", "octobre", "novembre", "décembre",
        "enero", "febrero", "marzo", "abril", "mayo", "junio",
        "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre",
        "gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno",
        "luglio", "agosto", "settembre", "ottobre", "novembre", "dicembre",
        "janeiro", "fevereiro", "março", "abril", "maio", "junho",
        "julho", "agosto", "setembro", "outubro", "novembro", "dezembro",
    ))
}  # fmt: skip
"""German, French, Spanish, Italian and Portuguese ones."""
_WEEKDAY = re.compile(r"^(?:the )?(?:(mon|tue|wed|thu|fri|sat|sun)(?:day|sday|nesday|rsday|urday)?)\b[,.]?\s+(?=.*\d)")
_ISO = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:t00:00(?::00)?z?)?")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})")
_CHARACTERS = re.compile(r"(\d{4})\s?年\s?(\d{1,2})\s?月\s?(\d{1,2})\s?日")
_NUMERIC = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})")
_DAY_FIRST = re.compile(
    r"(?:the )?(\d{1,2})(?:st|nd|rd|th|er|\.|º)?(?: (?:of|de))?[ -]([^\W\d_]{3,10})\.?,?(?:(?: de)?[ -](\d{4}))?"
)
_MONTH_FIRST = re.compile(r"([a-z]{3,9})\.? (?:the )?(\d{1,2})(?:st|nd|rd|th)?(?:,? (\d{4}))?")
_MONTH_YEAR = re.compile(r"([a-z]{3,9})\.?,? (?:of )?(\d{4})")
_TIME = re.compile(
    r"(?:at )?(\d{1,2})(?:[:.](\d{2}))?(?::(\d{2}))?\s*(?:(a|p)\.?\s?m\.?|(o'?clock|hrs?|hours?)?)"
    r"(?: (?:in the |at )?(morning|afternoon|evening|night))?"
)
_STYLE = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}")
_YEAR_MONTH = re.compile(r"(\d{4})[-/](\d{2})|(\d{2})/(\d{4})")
_HOURS = re.compile(r"(\d{2})(\d{2}) ?(?:hours|hrs|h)|(\d{1,2}) ?h ?(\d{2})")
_SPOKEN = re.compile(
    r"(?:a )?(?P<part>half|quarter) (?P<side>past|to) (?P<hour>[a-z]+|\d{1,2})(?P<half> [ap]\.?m\.?| in the \w+)?"
    r"|(?P<sharp>[a-z]+) o'?clock(?P<when> in the \w+)?"
)
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

Date = tuple[str, ...]


def read_date(text: str, *, is_surely: bool = False) -> Date | None:
    """A date or a time of the day in one form for each, or None where `text` is neither.

    Args:
        is_surely: it must be one, so that ``20240301`` and ``1530 hours`` are no numbers.
    """
    text = _STYLE.sub(r" \1 ", text.replace("\\,", " ").replace("\\ ", " ").replace("{:}", ":"))
    text = " ".join(text.lower().split()).strip(" .").removeprefix("on ")
    text = re.sub(r"(?<=\d) ?: ?(?=\d)", ":", text)
    if not text or len(text) > 60:
        return None
    if is_surely and (found := _COMPACT.fullmatch(text)):
        return _day(found[1], found[2], found[3])
    if is_surely and (found := _YEAR_MONTH.fullmatch(text)) and 1 <= int(found[2] or found[3]) <= 12:
        return ("month", found[1] or found[4], str(int(found[2] or found[3])))
    if is_surely and (found := _HOURS.fullmatch(text)):
        text = f"{found[1] or found[3].zfill(2)}:{found[2] or found[4]}"
    weekday = _WEEKDAY.match(text)
    day = _read_day(_WEEKDAY.sub("", text))
    if weekday is not None and day is not None and not _is_on(weekday[1], day):
        return None
    return day or _read_time(text)


def _is_on(weekday: str, date: Date) -> bool:
    """Whether the date, where its year is known, is on that day of the week."""
    if date[0] != "day" or not date[1]:
        return True
    return calendar.day_abbr[datetime.date(int(date[1]), int(date[2]), int(date[3])).weekday()].lower() == weekday


def _read_day(text: str) -> Date | None:
    if found := _ISO.fullmatch(text):
        return _day(found[1], found[2], found[3])
    if found := _CHARACTERS.fullmatch(text):
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
    if text in ("midnight", "12 midnight", "12:00 midnight", "24:00"):
        return ("time", "0", "0", "0")
    if (spoken := _SPOKEN.fullmatch(text)) is not None:
        return _spoken_time(spoken)
    found = _TIME.fullmatch(text)
    if found is None or not (found[2] or found[4] or found[5] == "o'clock"):
        return None
    if "." in text and not found[4]:
        return None
    hour, minute, second = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    half = found[4] or {"morning": "a", "afternoon": "p", "evening": "p"}.get(found[6] or "", "")
    if hour > 23 or minute > 59 or second > 59 or (half and not 1 <= hour <= 12):
        return None
    if not half and found[6] == "night":  # which two o'clock at night is depends on the day meant
        half = "p" if 6 <= hour <= 11 else ""
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    elif hour < 13 and hour and not text.startswith("0"):
        return ("half unknown", str(hour), str(minute), str(second))
    return ("time", str(hour), str(minute), str(second))


def _spoken_time(found: re.Match[str]) -> Date | None:
    """``half past two``, ``quarter to 3 pm``, ``five o'clock``."""
    said = found["hour"] or found["sharp"]
    hour = int(said) if said.isdecimal() else _WORDS.index(said) if said in _WORDS else 0
    if not 1 <= hour <= 12 or (found["part"], found["side"]) == ("half", "to"):
        return None
    minute = {"half": 30, "quarter": 15}.get(found["part"] or "", 0)
    if found["side"] == "to":
        hour, minute = (hour - 2) % 12 + 1, 60 - minute
    return _read_time(f"{hour}:{minute:02}{found['half'] or found['when'] or ''}")
