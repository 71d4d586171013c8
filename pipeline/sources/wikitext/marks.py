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
MARK = f"{_VERBATIM}[0-9]+{_VERBATIM}"
"""A pattern of what stands for a text that comes through as it is."""
_KEPT = re.compile(f"{_VERBATIM}([0-9]+){_VERBATIM}")

Cuts = dict[str, int]
"""Characters of wikitext that were left out, by rule."""


def unmarked(text: str) -> str:
    """`text` without characters that could be taken for marks."""
    return _OWN.sub("", text) if _OWN.search(text) else text


class Kept:
    """Texts that come through as they are, each known by a mark."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def inline(self, text: str) -> str:
        """The mark of a text within a line."""
        self._texts.append(text)
        return f"{_VERBATIM}{len(self._texts) - 1}{_VERBATIM}"

    def block(self, text: str) -> str:
        """The mark of a text that is a paragraph of its own."""
        return f"\n\n{self.inline(text)}\n\n"

    def restored(self, text: str) -> str:
        """`text` with every mark replaced by what it stands for."""
        return _KEPT.sub(lambda mark: self.restored(self._texts[int(mark[1])]), text)
