r"""Reads numerals of all notations exactly: ``1,000``, ``1e6``, ``2 1/2``, ``\frac{1}{2}``, ``0.\overline{3}``, words.

There is no rounding: ``0.333`` is not a third.
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["LONGEST_EXPONENT", "read_number", "read_words"]

LONGEST_EXPONENT = 400
_GROUP = r"(?:,|\{,\}|\\[,;: ]|\\!,(?:\\!)?|_|')"
NUMERAL = rf"(?:\d{{1,3}}(?:{_GROUP}\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMERAL = re.compile(rf"([-+]?)\s*({NUMERAL})\.?")
_SCIENTIFIC = re.compile(
    rf"([-+]?\s*(?:{NUMERAL}))\s*(?:(?<!\s)[eE]([-+]?\d+)"
    r"|(?:\\times|\\cdot|\*|x|X)\s*10\s*(?:\^|\*\*)\s*(?:\{\s*([-+]?\d+)\s*\}|\(\s*([-+]?\d+)\s*\)|([-+]?\d+)))"
)
_POWER_OF_TEN = re.compile(r"([-+]?)\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d+))")
_WHOLE = rf"[-+]?\s*(?:{NUMERAL})"
_FRACTION = re.compile(
    rf"([-+]?)\s*(?:\\[dtc]?frac\s*(?:\{{\s*({_WHOLE})\s*\}}|(\d))\s*(?:\{{\s*({_WHOLE})\s*\}}|(\d))"
    rf"|({NUMERAL})\s*/\s*({NUMERAL}))"
)
_MIXED = re.compile(r"([-+]?)\s*(\d+)(?:(?:\s|\\[,;: ])*(?=\\[dtc]?frac)|\s+(?:and\s+)?(?=\d+\s*/))(.+)")
_REPEATING = re.compile(r"([-+]?)\s*(\d*)\.(\d*)(?:\\(?:overline|bar)\s*\{?(\d+)\}?|\((\d+)\))")
_DOTTED = re.compile(r"\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?$")
"""The first and the last digit that repeat, with a dot above them."""
_SPACED = re.compile(r"([-+]?)\s*(\d{1,3}(?: \d{3})+(?:\.\d+)?)")
_POINTED = re.compile(r"([-+]?)\s*(\d{1,3}(?:\.\d{3})+),(\d+)|([-+]?)\s*(\d{1,3}(?: \d{3})+),(\d{1,2}|\d{4,})")
"""``1.234.567,89``: thousands between points, which points alone would not tell; ``1 234 567,89``."""
_POINT = re.compile(r"(?<!\{),")
"""A comma makes a point of what stands in brackets: ``(2,100)``."""
_AND_SO_ON = re.compile(r"([-+]?)(\d*\.\d*?)(?:(\d)\3{2,}|(\d{2,6})\4+)(?:\s*\\[lc]?dots(?:\s*\{\})?|\.{3}|…)")
"""``0.1666...``: a digit three times, or several digits twice, before the dots."""
_OVER = re.compile(r"\{?\s*([-+]?\d+)\s*(?:\\over|over|out of)\s*([-+]?\d+)\s*\}?")
_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_UNITS = {word: number for number, word in enumerate(_SMALL)}
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {
    "thousand": 10**3, "lakh": 10**5, "million": 10**6, "crore": 10**7, "billion": 10**9, "trillion": 10**12
}  # fmt: skip
_COUNTED = {**_SCALES, "hundred": 100, "dozen": 12}
_DECIMALS = ("tenths", "hundredths", "thousandths")
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
    "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "seventh": 7, "eighth": 8, "eighths": 8, "ninth": 9, "tenth": 10,
    "tenths": 10, "sevenths": 7, "ninths": 9, "twelfth": 12, "twelfths": 12, "sixteenth": 16, "sixteenths": 16,
    "twentieth": 20, "twentieths": 20, "hundredth": 100, "hundredths": 100, "thousandth": 1000, "thousandths": 1000,
}  # fmt: skip


def read_number(text: str) -> Fraction | None:
    """The rational number that all of `text` writes, or None."""
    text = text.strip()
    if not text or len(text) > 500:
        return None
    while len(text) > 2 and text[0] == "(" and text[-1] == ")" and "(" not in text[1:-1] and not _POINT.search(text):
        text = text[1:-1].strip()
    for reader in (_numeral, _scientific, _power_of_ten, _fraction, _mixed, _repeating, _grouped, _over, _scaled):
        found = reader(text)
        if found is not None:
            return found
    return read_words(text)


def _plain(text: str) -> Fraction:
    return Fraction(re.sub(r"\\!|\\|[ ,;:{}_']", "", text))


def _sign(sign: str) -> int:
    return -1 if sign == "-" else 1


def _numeral(text: str) -> Fraction | None:
    found = _NUMERAL.fullmatch(text)
    return None if found is None else _sign(found[1]) * _plain(found[2])


def _scientific(text: str) -> Fraction | None:
    found = _SCIENTIFIC.fullmatch(text)
    if found is None:
        return None
    exponent = int(found[2] or found[3] or found[4] or found[5])
    return None if abs(exponent) > LONGEST_EXPONENT else _plain(found[1]) * Fraction(10) ** exponent


def _power_of_ten(text: str) -> Fraction | None:
    found = _POWER_OF_TEN.fullmatch(text)
    if found is None or abs(exponent := int(found[2] or found[3])) > LONGEST_EXPONENT:
        return None
    return _sign(found[1]) * Fraction(10) ** exponent


def _fraction(text: str) -> Fraction | None:
    found = _FRACTION.fullmatch(text)
    if found is None:
        return None
    above = _plain(found[2] or found[3] or found[6])
    below = _plain(found[4] or found[5] or found[7])
    return _sign(found[1]) * above / below if below else None


def _mixed(text: str) -> Fraction | None:
    """``2 1/2`` and its like: a whole number, and a proper fraction after it."""
    found = _MIXED.fullmatch(text)
    part = None if found is None else _fraction(found[3].strip())
    if found is None or part is None or not 0 <= part < 1:
        return None
    return _sign(found[1]) * (int(found[2]) + part)


def _repeating(text: str) -> Fraction | None:
    if (endless := _AND_SO_ON.fullmatch(text)) is not None:
        text = endless.expand(r"\1\2(\3\4)")
    found = _REPEATING.fullmatch(_DOTTED.sub(r"(\1\2\3)", text))
    if found is None:
        return None
    whole, fixed, period = found[2] or "0", found[3], found[4] or found[5]
    value = Fraction(int(whole + fixed), 10 ** len(fixed))
    return _sign(found[1]) * (value + Fraction(int(period), 10 ** len(fixed) * (10 ** len(period) - 1)))


def _scaled(text: str) -> Fraction | None:
    """``2.5 million``, ``7 hundredths``."""
    head, _, scale = text.lower().rpartition(" ")
    number = _numeral(head) if scale in _COUNTED or scale in _DECIMALS else None
    return None if number is None else number * _COUNTED[scale] if scale in _COUNTED else number / _PARTS[scale]


def _grouped(text: str) -> Fraction | None:
    """Thousands between spaces, or between points where a comma tells it."""
    if (spaced := _SPACED.fullmatch(text)) is not None:
        return _sign(spaced[1]) * _plain(spaced[2])
    found = _POINTED.fullmatch(text)
    if found is None:
        return None
    sign, whole, part = (found[1], found[2], found[3]) if found[2] else (found[4], found[5], found[6])
    return _sign(sign) * Fraction(f"{re.sub('[. ]', '', whole)}.{part}")


def _over(text: str) -> Fraction | None:
    """``{3 \\over 4}``, ``1 in 8``."""
    found = _OVER.fullmatch(text)
    if found is None:
        chance = re.fullmatch(r"(\d+) in (\d+)", text)
        return Fraction(int(chance[1]), int(chance[2])) if chance and int(chance[1]) < int(chance[2]) else None
    return Fraction(int(found[1]), int(found[2])) if int(found[2]) else None


def read_words(text: str) -> Fraction | None:
    """A number in English words: ``forty-two``, ``minus five``, ``two thirds``, ``a half``."""
    words = re.findall(r"[a-z]+", text.lower())
    if len(words) > 20 or re.fullmatch(r"[A-Za-z]+(?:(?:-|\s+)[A-Za-z]+)*", text.strip()) is None:
        return None
    if words == ["half"]:
        return Fraction(1, 2)
    if "point" in words[1:-1]:
        return _with_point(words)
    if words[0] in ("minus", "negative"):
        inner = read_words(" ".join(words[1:]))
        return None if inner is None else -inner
    if words[:2] == ["half", "a"] and len(words) == 3 and words[2] in _COUNTED:
        return Fraction(_COUNTED[words[2]], 2)
    if len(words) > 1 and words[-1] == "dozen":
        count = Fraction(1) if words == ["a", "dozen"] else read_words(" ".join(words[:-1]))
        return None if count is None or not 0 < count < 20 else 12 * count
    if words[-1] in _PARTS and "and" in words[1:-1]:  # three and a half
        return _mixed_words(words)
    if words[-1] in _PARTS and len(words) > 1:
        count = Fraction(1) if words[:-1] in (["a"], ["an"], ["one"]) else read_words(" ".join(words[:-1]))
        return None if count is None or count.denominator != 1 or count >= 20 else count / _PARTS[words[-1]]
    return _whole_words([word for word in words if word != "and"])


def _with_point(words: list[str]) -> Fraction | None:
    """``seven point five``: digits one by one after the point."""
    place = words.index("point")
    whole, digits = read_words(" ".join(words[:place])), [_UNITS.get(word, 10) for word in words[place + 1 :]]
    if whole is None or whole.denominator != 1 or max(digits) > 9:
        return None
    part = Fraction(int("".join(map(str, digits))), 10 ** len(digits))
    return whole - part if words[0] in ("minus", "negative") else whole + part


def _mixed_words(words: list[str]) -> Fraction | None:
    last = len(words) - 1 - words[::-1].index("and")
    whole, part = read_words(" ".join(words[:last])), read_words(" ".join(words[last + 1 :]))
    if whole is None or part is None or whole.denominator != 1 or not 0 < part < 1:
        return None
    return whole + part


def _whole_words(words: list[str]) -> Fraction | None:
    """A whole number; each scale may come once, larger ones first."""
    total, rest, last = 0, list(words), 10**15
    while rest:
        place = next((index for index, word in enumerate(rest) if word in _SCALES), None)
        head = rest if place is None else rest[:place]
        scale = 1 if place is None else _SCALES[rest[place]]
        count = _below_thousand(head, is_counting=place is not None)
        if count is None or scale >= last:
            return None
        total += count * scale
        last, rest = scale, [] if place is None else rest[place + 1 :]
    return Fraction(total) if words else None


def _below_thousand(words: list[str], *, is_counting: bool = False) -> int | None:
    """The number, or of what counts a scale: ``a million``."""
    if words[:1] == ["a"] and (len(words) > 1 or is_counting):
        words = ["one", *words[1:]]
    if len(words) >= 2 and words[1] == "hundred" and words[0] in _UNITS and 0 < _UNITS[words[0]] < 20:
        rest = _below_thousand(words[2:]) if len(words) > 2 else 0
        return None if rest is None or rest >= 100 else 100 * _UNITS[words[0]] + rest
    match words:
        case [word] if word in _UNITS:
            return _UNITS[word]
        case [word] if word in _TENS:
            return _TENS[word]
        case [tens, unit] if tens in _TENS and unit in _UNITS and 0 < _UNITS[unit] < 10:
            return _TENS[tens] + _UNITS[unit]
    return None
