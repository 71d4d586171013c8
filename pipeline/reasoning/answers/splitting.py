"""Splits text: where no bracket is open, and into words."""

from __future__ import annotations

__all__ = ["split_outside", "word_set"]

_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


def split_outside(text: str, separators: str) -> list[str]:
    """The parts of `text` between `separators` that stand in no brackets, braces or LaTeX environments."""
    parts, depth, start, place = [], 0, 0, 0
    while place < len(text):
        char = text[place]
        if text.startswith("\\begin{", place):
            depth += 1
        elif text.startswith("\\end{", place):
            depth -= 1
        if char in _OPENING:
            depth += 1
        elif char in _CLOSING:
            depth = max(0, depth - 1)
        elif char in separators and not depth and not (place and text[place - 1] == "\\"):
            parts.append(text[start:place])
            start = place + 1
        place += 1
    return [*parts, text[start:]]


def word_set(text: str) -> frozenset[str]:
    """The words of a list that is written as one text."""
    return frozenset(text.split())
