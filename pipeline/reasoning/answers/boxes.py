r"""Finds what is boxed (``\boxed{42}``) or tagged (``<answer>42</answer>``), and what stands beside it.

Working may stand beside a box, but nothing that changes its value: ``-\boxed{42}``, ``\boxed{42} or 7`` and
``\boxed{42} is wrong`` give no value.
"""

from __future__ import annotations

import re
from itertools import pairwise

from pipeline.reasoning.answers.doubt import DENIAL, RETRACTION

__all__ = ["boxed", "has_box", "inner_value", "unboxed"]

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(?P<open>\{)|(?P<bare>[^\s{}\\$]+))")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_STYLE = r"large|Large|LARGE|huge|Huge|bf|it|rm|displaystyle"
_LAYOUT = r"q?quad|hfill|newline|par|item|left|centering"
_BESIDE = r"circ|degree|Omega|mu|end|right|tag|nonumber|[a-z]*square|Box|qed|checkmark|pmod"
"""Commands that may follow a box, of units and of the layout."""
_LEADING = r"(?:long)?(?:right|Right)arrow|implies|iff|to|therefore|equiv"
"""Commands that may stand before one."""
_BEFORE = re.compile(
    r"(?:[-+/^<>!~|_%²³]|\d[.,]?|(?<![A-Za-z])[A-Za-z]|(?<=[\w)}])\s*\*)\Z|[-+/^<>!~|_]\s*$|\d\s*\\,\s*$"
    rf"|\\(?!(?:{_STYLE}|{_LAYOUT}|{_LEADING})\s*$)[A-Za-z]+\s*\[?$|\w\($|[(\[{{]\s*[^\s()\[\],]+\s*,\s*$"
    r"|\b(?:not|never|isn't|half|twice|double|triple|minus|negative|no|less|more|than|or|either|about|approximately|"
    r"roughly|around|nearly|almost|up to|close to|under|over|most|least|wrong|incorrect|(?:not|\w+n't) be)\s*$"
    r"|\b(?:wrong|incorrect)\s*:\s*$"
    r"|\b(?:(?<!no )doubt|unlikely|impossible)(?: that)?(?: (?:it|this|the answer))?(?: is| equals)?\s*$"
    r"|\b(?:perhaps|maybe|probably|possibly)\b[^.!?,;\n]*$"
    r"|\b(?:not sure|unsure|(?:my|a|the|best|wild) guess)\b[^.!?\n]*$",
    re.IGNORECASE,
)
"""What changes the box that follows: a sign, a factor without a space between, a word."""
_AFTER = re.compile(
    r"\s*\^(?!\s*\{?\s*\\circ)|\s*(?:\\right)?[)\]|]+\s*(?:[-+*/^!]|\\cdot|\\times)|\w|[.,:]\d"
    r"|\s*(?:(?!-{3})[-+*/=!|<>~&²³\[{\d]|\((?!(?:since|as|because|where|by|from|using|see)\b)|[–—]\s*\d|\\?%\s*\d"
    rf"|\\(?!(?:{_LAYOUT}|{_BESIDE})(?![A-Za-z])|[^A-Za-z])"
    r"|(?:or|and|less|more|half|twice|times|to|squared|cubed|minus|plus|hundred|thousand|million|billion|dozen"
    r"|[b-fi-kn-rt-z])(?!\w))",
    re.IGNORECASE,
)
"""What changes the box before it; a letter unless it is a unit's."""
_OPERATOR = re.compile(r"(?:[-+*/^=<>|!]|\\(?!(?:text|mbox|quad|qquad)(?![A-Za-z]))[A-Za-z]+)")
"""What makes one value of two boxes."""
_WITHIN = re.compile(r"(\\[A-Za-z]+|[\w}\])^]?)\s*$")
"""What stands before a brace; a command that is none of `_STYLES`, an index or an exponent changes what it holds."""
_STYLES = re.compile(rf"\\(?:(?:text|math)[a-z]*|mbox|bm|boldsymbol|emph|underline|{_STYLE})|")
_WORDS = re.compile(r"\\(?:text|math)[a-z]*\s*\{([^{}]*)\}")
_PARAGRAPH = re.compile(r"\s*\n\s*\n.*[a-z]{3}", re.DOTALL)
_COLOUR = re.compile(r"\\(?:text)?color\s*\{\w*\}\s*")
_TABLE = re.compile(r"\\begin\s*\{(?:cases|array|[A-Za-z]*matrix)")
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
    if tagged and has_box(text[: tagged[0][0]] + text[tagged[-1][3] :]):
        return None
    contents = dict.fromkeys(text[first:last].strip() for _, first, last, _ in places)
    if not contents or ("" in contents and len(contents) > 1) or any(last < 0 for _, _, last, _ in places):
        return None
    between = [text[one[3] : other[0]] for one, other in pairwise(places)]
    if len(contents) > 1 and not (len(contents) == len(places) and all(map(_LISTS.fullmatch, between))):
        return None
    if len(contents) == 1 and any(_OPERATOR.fullmatch(part.strip(" $\n")) for part in between):
        return None
    before, after = text[: places[0][0]], text[places[-1][3] :]
    return None if _changes(before, after) or _is_within(before) else ", ".join(contents)


def _is_within(before: str) -> bool:
    r"""Whether what follows stands inside a command that makes something else of it: ``\sqrt{``."""
    before = _COLOUR.sub("", before)
    if len(_TABLE.findall(before)) > before.count("\\end{"):
        return True
    opened: list[int] = []
    for brace in re.finditer(r"(?<!\\)[{}]", before):
        if brace[0] == "{":
            opened.append(brace.start())
        elif opened:
            opened.pop()
    found = (_WITHIN.search(before[:place]) for place in opened)
    return any(each is not None and not _STYLES.fullmatch(each[1]) for each in found)


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
    before, after = (_WORDS.sub(r"\1", text) for text in (before, after))
    before = re.sub(r"(?:\$|\*\*|\\[(\[])+\s*$", "", before)
    after = re.sub(r"\\[,;:! ]", " ", after.lstrip("}")).rstrip(" ~")
    closing = _CLOSING.match(after)
    rest = after if closing is None else after[closing.end() :]
    is_next_sentence = (closing is not None and re.search(r"[.;]", closing[0]) is not None) or any(
        map(_PARAGRAPH.match, (after, rest))
    )
    if _BEFORE.search(before) or DENIAL.search(after) or RETRACTION.search(after) or "?" in after:
        return True
    return not is_next_sentence and _AFTER.match(rest) is not None
