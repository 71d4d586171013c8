r"""Reads and compares unions of intervals: in brackets, as inequalities of one variable, as sets built by those."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction

from pipeline.reasoning.answers.formulas import TURNED, equal_formula, formula, read_relation, solved, value_of
from pipeline.reasoning.answers.lists import paired
from pipeline.reasoning.answers.splitting import split_outside
from pipeline.reasoning.answers.syntax import names

__all__ = ["Interval", "equal_intervals", "is_built", "read_intervals"]

Interval = tuple[str, str, str, str]
"""Opening bracket, lower end, upper end, closing bracket."""
_INTERVAL = re.compile(r"([\[\](])(.+)([\])\[])", re.DOTALL)
_REALS = ("\\mathbb{R}", "\\mathbb R", "\\R", "\\Bbb{R}", "all real numbers", "\\mathbf{R}", "all reals")
_EVERYTHING = (("(", "-\\infty", "\\infty", ")"),)
_MEMBER = re.compile(r"^\s*[A-Za-z]\s*\\in(?![A-Za-z])\s*|^all (?:real )?(?=[A-Za-z]\b)")
_BUILT = re.compile(
    r"\\?\{\s*(?P<name>[A-Za-z])\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\?[|:]|\\mid|\\colon)\s*(?P<rule>.+?)\\?\}",
    re.DOTALL,
)
_UNION = re.compile(r"\\cup(?![A-Za-z])|\\text\s*\{\s*or\s*\}|\bor\b|(?<=[\])])\s*U\s*(?=[\[(])|\\lor(?![A-Za-z])")
_BOTH = re.compile(r"\\text\s*\{\s*and\s*\}|\band\b|\\land(?![A-Za-z])|\\wedge(?![A-Za-z])")
_WITHOUT = re.compile(
    r"(?P<whole>.+?)\s*(?:(?:\\setminus|\\backslash|\bexcept\b)\s*\\?\{?|-\s*\\?\{)(?P<points>(?:[^{}\\]|\\[dt]?frac(?:\{\d+\}\{\d+\}|\d\d))+)\\?\}?"
)
_POINT = re.compile(r"\\?\{\s*([^{},\\]+|\\frac\{\d+\}\{\d+\})\s*\\?\}|[A-Za-z]\s*=\s*([^=<>,]+)")
_ABSOLUTE = re.compile(r"(?:\\?\||\\lvert)\s*[A-Za-z]\s*([-+][^|\\]+)?(?:\\?\||\\rvert)")


def is_built(text: str) -> bool:
    r"""Whether `text` is a set of what fulfils a rule: ``\{x : x > 3\}``."""
    return _BUILT.fullmatch(text.strip()) is not None


def read_intervals(text: str) -> tuple[Interval, ...] | None:
    """A union of intervals, maybe with points apart from them, or None."""
    text = _MEMBER.sub("", text).strip()
    if (built := _BUILT.fullmatch(text)) is not None:
        text = built["rule"].strip()
    found: list[Interval] = []
    for piece in _UNION.split(text):
        intervals = _piece(piece.strip())
        if intervals is None:
            return None
        found += intervals
    return tuple(found) if any(lower != upper for _, lower, upper, _ in found) else None


def _piece(text: str) -> Sequence[Interval] | None:
    if text in _REALS:
        return _EVERYTHING
    both = _BOTH.split(text)
    if len(both) == 2:
        return _common(both[0].strip(), both[1].strip())
    sides = split_outside(text, ",")
    if len(sides) == 2 and all(read_relation(side) is not None for side in sides):
        return _side_by_side(sides[0].strip(), sides[1].strip())
    point = _POINT.fullmatch(text)
    if point is not None and value_of(end := point[1] or point[2]) is not None:
        return (("[", end, end, "]"),)
    interval = _bracketed(text) or _bounded(text)
    return (interval,) if interval is not None else _apart(text) or _punctured(text)


def _bracketed(text: str) -> Interval | None:
    found = _INTERVAL.fullmatch(text)
    ends = [] if found is None else [part.strip() for part in split_outside(found[2], ",;")]
    if found is None or len(ends) != 2 or formula(ends[0]) is None or formula(ends[1].removeprefix("+")) is None:
        return None
    opens, closes = {"]": "("}.get(found[1], found[1]), {"[": ")"}.get(found[3], found[3])  # ]0, 1[
    return (opens, ends[0], ends[1].removeprefix("+"), closes)


def _bounded(text: str) -> Interval | None:
    """``1 <= x < 2``, ``x > 3`` and ``|x| < 2`` as intervals."""
    relation = read_relation(text)
    if relation is None or "=" in relation.signs or "!=" in relation.signs:
        return None
    sides, signs = relation.sides, relation.signs
    if len(signs) == 2 and re.fullmatch(r"[A-Za-z]|\\[a-z]+", sides[1]):
        if signs[0][0] == signs[1][0] == ">":
            sides, signs = sides[::-1], tuple(TURNED[sign] for sign in signs[::-1])
        if signs[0][0] == signs[1][0] == "<":
            return ("[" if signs[0] == "<=" else "(", sides[0], sides[2], "]" if signs[1] == "<=" else ")")
    if len(signs) != 1:
        return None
    absolute = _ABSOLUTE.fullmatch(sides[0])
    if signs[0][0] == "<" and absolute is not None and (value_of(sides[1]) or 0) > 0:
        lower, upper = _ends(absolute, sides[1])
        return ("[" if signs[0] == "<=" else "(", lower, upper, "]" if signs[0] == "<=" else ")")
    return _half(text)


def _ends(absolute: re.Match[str], distance: str) -> tuple[str, str]:
    """Of ``|x - 1|`` and a distance: the ends of the interval."""
    return tuple(f"-({absolute[1] or 0}){sign}({distance})" for sign in "-+")  # type: ignore[return-value]


def _half(text: str) -> Interval | None:
    """``x > 3``."""
    relation = read_relation(text)
    found = None if relation is None or len(relation.signs) != 1 else solved(relation)
    tree = None if found is None else formula(found[2])
    if found is None or tree is None or names(tree) or found[1] in ("=", "!="):
        return None
    if found[1][0] == ">":
        return ("[" if found[1] == ">=" else "(", found[2], "\\infty", ")")
    return ("(", "-\\infty", found[2], "]" if found[1] == "<=" else ")")


def _side_by_side(first: str, second: str) -> tuple[Interval, ...] | None:
    """``x > 0, x < 5`` holds for both, ``x < 0, x > 5`` for either: of the two whichever is something."""
    both = _common(first, second)
    if both is None or len(both) > 1 or (lower := _end(both[0][1])) is None or (upper := _end(both[0][2])) is None:
        return both if both is not None and len(both) > 1 else None
    one, two = _half(first), _half(second)
    return both if lower < upper else (one, two) if lower > upper and one is not None and two is not None else None


def _common(first: str, second: str) -> tuple[Interval, ...] | None:
    r"""``x > 0 and x <= 5``, ``x > 0 and x \ne 5``."""
    relations = [read_relation(text) for text in (first, second)]
    known = [found for relation in relations if relation is not None and (found := solved(relation))]
    one, two = _half(first), _half(second)
    if len({found[0] for found in known}) != 1 or len(known) < 2:
        return None
    for half, (_, sign, point) in ((one, known[1]), (two, known[0])):
        if half is not None and sign == "!=":
            return _around(half, point)
    if one is None or two is None:
        return None
    lower, upper = (one, two) if one[2] == "\\infty" else (two, one)
    if lower[2] != "\\infty" or upper[1] != "-\\infty":
        return None
    return ((lower[0], lower[1], upper[2], upper[3]),)


def _apart(text: str) -> tuple[Interval, ...] | None:
    r"""``|x| > 1`` and ``x \ne 0``: two intervals."""
    relation = read_relation(text)
    if relation is None or len(relation.signs) != 1:
        return None
    (left, right), sign = relation.sides, relation.signs[0]
    value = value_of(right)
    if value is None:
        return None
    if sign == "!=" and re.fullmatch(r"[A-Za-z]", left):
        return _around(_EVERYTHING[0], right)
    absolute = _ABSOLUTE.fullmatch(left)
    if sign[0] == ">" and absolute is not None and value > 0:
        is_closed = sign == ">="
        lower, upper = _ends(absolute, right)
        return (
            ("(", "-\\infty", lower, "]" if is_closed else ")"),
            ("[" if is_closed else "(", upper, "\\infty", ")"),
        )
    return None


def _around(interval: Interval, point: str) -> tuple[Interval, Interval]:
    return (*interval[:2], point, ")"), ("(", point, *interval[2:])


def _punctured(text: str) -> tuple[Interval, ...] | None:
    r"""``[0, 2] \setminus \{1\}``: an interval without some points inside it, which rise."""
    split = _WITHOUT.fullmatch(text)
    if split is None:
        return None
    left = _EVERYTHING[0] if split["whole"] in _REALS else _bracketed(split["whole"])
    points = [point.strip() for point in split["points"].split(",")]
    if left == _EVERYTHING[0] and (hole := _bracketed(split["points"].strip())) is not None:
        opens, closes = {"(": "]", "[": ")"}[hole[0]], {")": "[", "]": "("}[hole[3]]
        return ("(", "-\\infty", hole[1], opens), (closes, hole[2], "\\infty", ")")
    if left is None or any(value_of(point) is None for point in points):
        return None
    found: list[Interval] = []
    for point in sorted(points, key=lambda point: value_of(point) or 0):
        before, left = _around(left, point)
        found.append(before)
    return (*found, left)


# --- comparing


_End = Fraction | float


def equal_intervals(expected: tuple[Interval, ...], answer: tuple[Interval, ...]) -> bool:
    """Whether the two unions are the same: joined where they touch if all ends are rational, else one by one."""
    first, second = _joined(expected), _joined(answer)
    if first is not None and second is not None:
        return first == second
    return paired(expected, answer, _equal_interval)


def _equal_interval(first: Interval, second: Interval) -> bool:
    return (first[0], first[3]) == (second[0], second[3]) and all(map(equal_formula, first[1:3], second[1:3]))


def _joined(intervals: tuple[Interval, ...]) -> list[tuple[_End, bool, _End, bool]] | None:
    """Lower end, whether it belongs, upper end, whether it belongs; None where an end is not rational."""
    known: list[tuple[_End, bool, _End, bool]] = []
    for opens, lower, upper, closes in intervals:
        first, last = _end(lower), _end(upper)
        if first is None or last is None or first > last or (first == last and opens + closes != "[]"):
            return None
        known.append((first, opens == "[", last, closes == "]"))
    known.sort(key=lambda interval: (interval[0], not interval[1]))
    found: list[tuple[_End, bool, _End, bool]] = []
    for interval in known:
        if found and (interval[0] < found[-1][2] or (interval[0] == found[-1][2] and (interval[1] or found[-1][3]))):
            first, is_closed, last, is_last = found.pop()
            end = max((last, is_last), interval[2:])
            found.append((first, is_closed, *end))
        else:
            found.append(interval)
    return found


def _end(text: str) -> _End | None:
    bare = re.sub(r"[\s{}()]", "", text)
    if bare in ("\\infty", "+\\infty", "infinity", "inf", "oo"):
        return math.inf
    return -math.inf if bare.startswith("-") and _end(bare[1:]) == math.inf else value_of(text)
