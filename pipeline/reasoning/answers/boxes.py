r"""Finds what is boxed (``\boxed{42}``) or tagged (``<answer>42</answer>``), and what stands beside it.

Working may stand beside a box, but nothing that changes its value: ``-\boxed{42}``, ``\boxed{42} or 7`` and
``\boxed{42} is wrong`` give no value.
"""

from __future__ import annotations

import re
from itertools import pairwise

from pipeline.reasoning.answers.doubt import DENIAL

__all__ = ["boxed", "has_box", "inner_value", "unboxed"]

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(?P<open>\{)|(?P<bare>[^\s{}\\$]+))")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_BEFORE = re.compile(
    r"(?:[-+/^<>!~|_%²³]|\d|(?<![A-Za-z])[A-Za-z]|(?<=[\w)}])\s*\*)$|[-+/^<>!~|_]\s*$"
    r"|\\(?:neq?|approx|pm|mp|times|cdot|div|l[et]|g[et]|sim|frac|sqrt)\s*$"
    r"|\b(?:not|never|isn't|half|twice|double|triple|minus|negative|no|less|more|than|or|either|about|approximately|"
    r"wrong|incorrect)\s*$|\b(?:wrong|incorrect)\s*:\s*$",
    re.IGNORECASE,
)
"""What changes the box that follows: a sign, a factor without a space between, a word."""
_AFTER = re.compile(
    r"\s*\^(?!\s*\{?\s*\\circ)|\w|\s*(?:[-+*/=!|<>~&(²³\[{\d]|\\(?:neq?|approx|pm|mp|times|cdot|div|l[et]|g[et]|sim)"
    r"|(?:or|and|less|more|half|twice|times|to|squared|cubed|minus|plus|[b-z])(?!\w))",
    re.IGNORECASE,
)
"""What changes the box before it."""
_CLOSING = re.compile(r"(?:[\s~]*(?:\$|\*\*|\\[)\]]|[.,;:](?!\d)|\\(?:checkmark|blacksquare|qed)(?![A-Za-z])))+")
_LISTS = re.compile(r"[\s$]*(?:[,;]\s*(?:and\b)?|\band\b|\\text\s*\{\s*and\s*\})[\s$]*|\$?,\\\s?\$?")
"""What stands between boxes that hold a value each of several."""


def boxed(text: str) -> list[str]:
    r"""The contents of every ``\boxed{...}``, braces matched; one that never closes is none."""
    return [text[first:last].strip() for _, first, last, _ in _boxes(text) if last >= 0]


def unboxed(expected: str) -> str:
    """What an expected answer holds that is boxed as a whole, else the answer as it is."""
    found = boxed(expected)
    return found[0] if len(found) == 1 and _BOX.match(expected.lstrip(" $*\n")) else expected


def has_box(text: str) -> bool:
    """Whether `text` begins a box."""
    return _BOX.search(text) is not None


def inner_value(text: str) -> str | None:
    """What the boxes, or the tags, of `text` all hold, or list; None where they differ or what is beside changes it."""
    tagged = [(found.start(), found.start(1), found.end(1), found.end()) for found in _TAGGED.finditer(text)]
    places = tagged or _boxes(text)
    contents = dict.fromkeys(text[first:last].strip() for _, first, last, _ in places)
    if not contents or ("" in contents and len(contents) > 1) or any(last < 0 for _, _, last, _ in places):
        return None
    between = [text[one[3] : other[0]] for one, other in pairwise(places)]
    if len(contents) > 1 and not (len(contents) == len(places) and all(map(_LISTS.fullmatch, between))):
        return None
    before, after = text[: places[0][0]], text[places[-1][3] :]
    return None if _changes(before, after) else ", ".join(contents)


def _boxes(text: str) -> list[tuple[int, int, int, int]]:
    """Where each box begins, where its content begins and ends, and where it ends; -1 for one that never closes."""
    found: list[tuple[int, int, int, int]] = []
    start = 0
    while (box := _BOX.search(text, start)) is not None:
        start = box.end()
        if box["bare"] is not None:
            bare = box["bare"].rstrip(".,;")
            found.append((box.start(), box.start("bare"), box.start("bare") + len(bare), box.end()))
            continue
        depth = 1
        while start < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[start], 0)
            start += 1
        if depth:
            found.append((box.start(), -1, -1, start))
            break
        found.append((box.start(), box.end(), start - 1, start))
    return found


def _changes(before: str, after: str) -> bool:
    """Whether the text around the boxes takes back or changes what they hold."""
    before = re.sub(r"(?:\$|\*\*|\\[(\[])+\s*$", "", before)
    closing = _CLOSING.match(after)
    rest = after if closing is None else after[closing.end() :]
    is_next_sentence = closing is not None and re.search(r"[.;]", closing[0]) is not None
    if _BEFORE.search(before) or DENIAL.search(after) or "?" in after:
        return True
    return not is_next_sentence and _AFTER.match(rest) is not None
