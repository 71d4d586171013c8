"""Preformatted text on its way through a book: marked in the text itself, so that it can be cut and joined freely.

A chapter is found, tidied and cut as text. Marks that no text has stand around what is verbatim meanwhile, and are
taken out again where documents are made, when they become the spans of `pipeline.tasks.verbatim`.
"""

from __future__ import annotations

import re

from pipeline.sources.html import PageText
from pipeline.sources.stream import tidy
from pipeline.tasks.verbatim import Spans

__all__ = ["Unmarking", "marked", "tidied", "without_marks"]

_BEGIN, _END = "\x02", "\x03"
_STRETCH = re.compile(f"({_BEGIN}[^{_END}]*+{_END}?)")
_MARK = re.compile(f"[{_BEGIN}{_END}]")


def marked(page: PageText) -> str:
    """The text of a page with marks around what is preformatted; the marks' own characters elsewhere are replaced."""
    pieces, place = [], 0
    text = without_marks(page.text, "\ufffd")
    for begin, end in page.verbatim:
        pieces += [text[place:begin], _BEGIN, text[begin:end], _END]
        place = end
    return "".join([*pieces, text[place:]])


def tidied(text: str) -> str:
    """`tidy` of all that is not between marks; an indentation that a text begins with stays where it is."""
    if _BEGIN not in text:
        return tidy(text)
    # A character of ink keeps what is around the marks from being taken for the ends of the text.
    pieces = _STRETCH.split(text)
    inner = [piece if number % 2 else _between(piece) for number, piece in enumerate(pieces)]
    return "".join([inner[0].lstrip(), *inner[1:-1], inner[-1].rstrip()])


def _between(piece: str) -> str:
    return tidy(f"{_BEGIN}{piece}{_END}")[1:-1]


def without_marks(text: str, instead: str = "") -> str:
    """The text alone, as of a heading; or with something else for each character that would be taken for a mark."""
    return _MARK.sub(instead, text)


class Unmarking:
    """Takes marks out of the pieces of a text, which may part a preformatted stretch, in order."""

    def __init__(self) -> None:
        self._is_within = False

    def __call__(self, piece: str) -> tuple[str, Spans]:
        """The piece without marks, and where it is verbatim."""
        texts: list[str] = []
        spans: Spans = []
        length = place = 0
        for mark in [*_MARK.finditer(piece), None]:
            part = piece[place : mark.start() if mark else len(piece)]
            if self._is_within and part:
                spans.append((length, length + len(part)))
            texts.append(part)
            length += len(part)
            if mark:
                self._is_within, place = mark[0] == _BEGIN, mark.end()
        return "".join(texts), spans
