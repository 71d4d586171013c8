r"""Reads sets and sequences: ``\{1, 2\}``, ``(3, 4)``, ``[1, 2, 3]``, ``1, 2 and 3``, ``\pm 2``, ``x = 1 or x = 2``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from pipeline.reasoning.answers.numbers import read_number
from pipeline.reasoning.answers.splitting import split_outside

__all__ = ["Listing", "are_conjugate", "equal_in_any_order", "equal_in_order", "is_ascending", "paired", "read_listing"]

Item = TypeVar("Item")

MOST_ITEMS = 100
_SET = re.compile(r"\\\{(.*)\\\}|\{(.*)\}", re.DOTALL)
_BRACKETED = re.compile(r"([\[(])(.*)([\])])", re.DOTALL)
_OR = re.compile(
    r"\\(?:text|mbox|mathrm)\s*\{\s*(?:or|and)\s*\}|,?\s*\b(?:or|and)\b|\\(?:lor|vee)(?![A-Za-z])|(?<=\s)\\?&(?=\s)"
)
_ASSIGNED = re.compile(r"\s*([A-Za-z](?:_\{?\d+\}?)?|\\[a-z]+)\s*(?:=|\\in(?![A-Za-z]))\s*(.+)", re.DOTALL)
_POINT = re.compile(r"\(([A-Za-z](?:_\{?\d\}?)?(?:\s*,\s*[A-Za-z](?:_\{?\d\}?)?)+)\)\s*=\s*(\(.+\))", re.DOTALL)
_ANGLED = re.compile(r"\\langle\s*(.+?)\s*\\rangle|<\s*([^<>=]+,[^<>=]+)>", re.DOTALL)
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)")


@dataclass(frozen=True)
class Listing:
    """Several values, as they are written."""

    brackets: str
    """``{}``, ``()``, ``[]``, ``[)``, ``(]``, or nothing."""
    items: tuple[str, ...]
    names: tuple[str, ...] = ()
    """Of items that are given as ``x = 3, y = 4``."""
    is_alternative: bool = False
    """Whether they are joined by "or", or by a sign of plus or minus."""

    @property
    def is_one_unknown(self) -> bool:
        """Whether all items are values of the same name: ``x = 1, x = 2``."""
        return len(set(self.names)) == 1

    @property
    def is_numbered(self) -> bool:
        """Whether all items are values of one name with different indices: ``x_1 = 1, x_2 = 2``."""
        stems = {name.partition("_")[0] for name in self.names}
        return len(stems) == 1 and len(set(self.names)) == len(self.names) and all("_" in name for name in self.names)


def read_listing(text: str) -> Listing | None:
    """What `text` lists, or None where it is one value."""
    text = re.sub(r"(?<=\d)\{,\}(?=\d{3})", "", text.strip())
    if (vector := _ANGLED.fullmatch(text)) is not None:
        text = f"({vector[1] or vector[2]})"
    text = re.sub(r"\\(?:[ ;:]|q?quad(?![A-Za-z]))|(?<=[,;])\s*\\,", " ", text)
    if "\\begin" in text or len(text) > 2000:
        return None
    if re.fullmatch(r"\\(?:emptyset|varnothing)|\\\{\s*\\\}|\{\s*\}", text):
        return Listing("{}", ())
    point = _POINT.fullmatch(text)
    if point is not None:  # (x, y) = (3, 4)
        names = tuple(name.strip() for name in point[1].split(","))
        return read_listing(point[2]) if list(names) == sorted(names) else None
    assigned = _ASSIGNED.fullmatch(text)
    if assigned is not None and "=" not in assigned[2]:
        inner = read_listing(assigned[2])
        if inner is None or inner.names:
            return None
        return Listing(inner.brackets, inner.items, (assigned[1],) * len(inner.items), inner.is_alternative)
    found = _SET.fullmatch(text)
    if found is not None and _is_one_bracket(text.replace("\\{", "{").replace("\\}", "}")):
        return Listing("{}", _items(found[1] if found[1] is not None else found[2]))
    found = _BRACKETED.fullmatch(text)
    if found is not None and _is_one_bracket(text):
        items = _items(found[2], inside=True)
        return Listing(found[1] + found[3], items) if len(items) > 1 or found[1] == "[" else None
    return _bare(text)


def _is_one_bracket(text: str) -> bool:
    """Whether the first bracket closes at the very end."""
    depth = 0
    for place, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if not depth:
            return place == len(text) - 1
    return False


def _items(text: str, *, inside: bool = False) -> tuple[str, ...]:
    parts = split_outside(text, ",;") if inside or not _THOUSANDS.search(text) else _split_spaced(text)
    expanded = [item for part in parts for item in _both_signs(part.strip())]
    return tuple(expanded[: MOST_ITEMS + 1])


def _split_spaced(text: str) -> list[str]:
    """``1,000, 2,000`` in two; ``1,200`` in one only where it is all there is."""
    parts = split_outside(text, ";")
    if len(parts) > 1 or read_number(text) is not None:
        return parts
    return re.split(r",\s+", text) if re.search(r",\s", text) else split_outside(text, ",")


def _bare(text: str) -> Listing | None:
    if read_number(text) is not None:
        return None
    pieces = [piece.strip(" ,") for piece in _OR.split(text)]
    if any(not piece for piece in pieces):
        return None
    items = [item for piece in pieces for item in _items(piece)]
    if len(items) < 2 or any(not item for item in items):
        return None
    is_alternative = bool(re.search(r"\bor\b|\\lor|\\vee", text)) or "\\pm" in text
    assigned = [_ASSIGNED.fullmatch(item) for item in items]
    if all(match is not None for match in assigned):
        matches = [match for match in assigned if match is not None]
        return Listing("", tuple(m[2].strip() for m in matches), tuple(m[1] for m in matches), is_alternative)
    return Listing("", tuple(items), (), is_alternative)


def _both_signs(text: str) -> list[str]:
    if text.count("\\pm") + text.count("\\mp") != 1:
        return [text]
    return [re.sub(r"\\[pm][pm](?![A-Za-z])", sign, text) for sign in ("+", "-")]


def is_ascending(items: Sequence[str]) -> bool:
    """Whether the items are numbers or points that rise: written so, they may be a set as well as a sequence."""
    points = [_BRACKETED.fullmatch(item.strip()) for item in items]
    pairs = zip(items, points, strict=True)
    rows = [[item] if point is None else split_outside(point[2], ",") for item, point in pairs]
    numbers = [[read_number(cell) for cell in row] for row in rows]
    known = [[number for number in row if number is not None] for row in numbers]
    return known == numbers and all(a < b for a, b in pairwise(known))


def are_conjugate(items: Sequence[str]) -> bool:
    r"""Whether two items differ in signs only, as ``2, -2`` and ``1+\sqrt{2}, 1-\sqrt{2}`` do."""
    if len(items) != 2:
        return False
    first, second = (item.replace(" ", "").removeprefix("+") for item in items)
    is_negative = first == second.removeprefix("-") or second == first.removeprefix("-")
    return first != second and (is_negative or first.replace("-", "+") == second.replace("-", "+"))


def equal_in_order(first: Sequence[str], second: Sequence[str], equal: Callable[[str, str], bool]) -> bool:
    """Whether the items are equal one by one."""
    return 0 < len(first) == len(second) <= MOST_ITEMS and all(map(equal, first, second))


def equal_in_any_order(first: Sequence[str], second: Sequence[str], equal: Callable[[str, str], bool]) -> bool:
    """Whether the items are equal in some order, each as often in both."""
    return len(first) == len(second) <= MOST_ITEMS and paired(first, second, equal)


def paired(first: Sequence[Item], second: Sequence[Item], equal: Callable[[Item, Item], bool]) -> bool:
    """Whether each item has an equal one of its own among the others, and none of these is left."""
    left = list(second)
    for item in first:
        place = next((place for place, other in enumerate(left) if equal(item, other)), None)
        if place is None:
            return False
        del left[place]
    return not left
