"""What a part without a text leaves around it: two spaces, an empty pair of brackets, a comma after nothing.

Only the places where something went are looked at; what the writer put elsewhere stays as it is.
"""

from __future__ import annotations

from pipeline.sources.wikitext.marks import HOLE

__all__ = ["closed"]

_OPENING = {"(": ")", "[": "]", "（": "）", "［": "］", "〔": "〕"}
_CLOSING = "".join(_OPENING.values())
_QUOTING = {"«": "»", "“": "”", "„": "“", "‘": "’", "「": "」", "『": "』", "《": "》", '"': '"'}
_BETWEEN = " ,;:、，；،؛\u200b"
"""What stands between the things in brackets."""
_SHORT = 16
"""Characters of a line's end that are looked at."""
_STOPS = ",.)]）」。、，،।॥។።։"
"""What stands right behind the word before it in every language; before `;:!?` the French leave a space."""


def closed(line: str) -> str:
    """`line` without its holes, and without what only they explain."""
    if HOLE not in line:
        return line
    first, *others = line.split(HOLE)
    parts: list[str] = []
    _append(parts, first)
    for right in others:
        for part in _join(_tail(parts), right):
            _append(parts, part)
    return "".join(parts)


def _append(parts: list[str], part: str) -> None:
    """Add a part, with its end apart, so that no long one is taken up again and again."""
    if len(part) > 2 * _SHORT:
        parts += [part[:-_SHORT], part[-_SHORT:]]
    elif part:
        parts.append(part)


def _tail(parts: list[str]) -> str:
    """Take from the parts what stands before a hole, further back if that only separates."""
    tail = parts.pop() if parts else ""
    while parts and len(parts[-1]) <= 2 * _SHORT and len(tail) < 2 * _SHORT and not tail.strip(_BETWEEN):
        tail = parts.pop() + tail
    return tail


def _join(left: str, right: str) -> tuple[str, str]:
    """Both sides of a hole as they may stand beside each other."""
    before, after = left.rstrip(" "), right.lstrip(" ")
    if before and before[-1] in _OPENING:
        after = after.lstrip(f"{_BETWEEN}–—")
        if after[:1] == _OPENING[before[-1]]:
            return before[:-1].rstrip(" "), after[1:]
        return before, after
    if before and after[:1] and _QUOTING.get(before[-1]) == after[0]:
        return before[:-1].rstrip(" "), after[1:]
    if not before:
        return "", after.lstrip(",;،؛ ")
    if after[:1] and after[0] in _CLOSING:
        return before.rstrip(_BETWEEN), after
    if after[:1] in (",", ";", ".", "、", "，", "،", "؛") and before[-1] in ",;:、，،؛":
        return before[:-1].rstrip(" "), after
    if left != before and right != after:  # a space on both sides
        return (before, after) if after[:1] and after[0] in _STOPS else (left, after)
    if left != before and after[:1] and after[0] in _STOPS:
        return before, right
    return left, right
