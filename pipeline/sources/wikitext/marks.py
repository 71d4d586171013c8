"""What stands in wikitext for something already dealt with, as MediaWiki's own strip markers do.

Marks are control characters, which no XML document can hold (XML 1.0, section 2.2); text that has some of its own, from
elsewhere, loses them first. So whatever a mark stands for, no later step takes it for markup, and what must come
through byte for byte is put back when all else is done.
"""

from __future__ import annotations

import re

__all__ = ["BREAK", "HOLE", "MARK", "Cuts", "Kept", "unmarked"]

_VERBATIM = "\x01"
HOLE = "\x02"
"""Something that shows no text: a reference, a template without words of its own, a picture."""
BREAK = "\x03"
"""A line end that begins no line of markup."""
_OWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_FIRST_DIGIT = 0x0E
"""The control characters from here on are the digits of numbers: no step takes them for a number of the text."""
MARK = f"{_VERBATIM}[\x0e-\x17]+{_VERBATIM}"
"""A pattern of what stands for a text that comes through as it is."""
_KEPT = re.compile(MARK)
_DIGITS = str.maketrans("0123456789", "".join(chr(_FIRST_DIGIT + digit) for digit in range(10)))

Cuts = dict[str, int]
"""Characters of wikitext that were left out, by rule."""


def unmarked(text: str) -> str:
    """`text` without characters that could be taken for marks."""
    return _OWN.sub("", text) if _OWN.search(text) else text


class Kept:
    """Texts that come through as they are, each known by a mark."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._code: set[int] = set()

    def inline(self, text: str, *, code: bool = False) -> str:
        """The mark of a text within a line; every character of code counts in later stages, too."""
        number = len(self._texts)
        self._texts.append(text)
        if code:
            self._code.add(number)
        return f"{_VERBATIM}{str(number).translate(_DIGITS)}{_VERBATIM}"

    def block(self, text: str, *, code: bool = False) -> str:
        """The mark of a text that is a paragraph of its own."""
        return f"\n\n{self.inline(text, code=code)}\n\n"

    def restored(self, text: str) -> str:
        """`text` with every mark replaced by what it stands for."""
        return _KEPT.sub(lambda mark: self.restored(self._texts[_number(mark[0])]), text)

    def restored_with_code(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """The same, and the places of the code in it."""
        pieces: list[str] = []
        places: list[tuple[int, int]] = []
        length = done = 0
        for mark in _KEPT.finditer(text):
            shown = self.restored(mark[0])
            pieces += [text[done : mark.start()], shown]
            length += mark.start() - done + len(shown)
            done = mark.end()
            if shown and _number(mark[0]) in self._code:
                places.append((length - len(shown), length))
        return "".join([*pieces, text[done:]]), places


def _number(mark: str) -> int:
    return int("".join(str(ord(digit) - _FIRST_DIGIT) for digit in mark[1:-1]))
