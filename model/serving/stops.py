"""Ends a text that streams in before the first of some endings, however it is cut."""

from __future__ import annotations

from collections.abc import Sequence

from model.generation.reasoning import overlap

__all__ = ["StopCutter"]


class StopCutter:
    """Passes text on up to the first of `endings`, and holds back what may be the beginning of one."""

    def __init__(self, endings: Sequence[str]) -> None:
        self._endings = tuple(endings)
        self._held = ""
        self.found = False
        """Whether an ending has come: nothing follows."""

    def feed(self, text: str) -> str:
        """What of the text so far is sure to stand before an ending, and was not returned before."""
        if self.found or not self._endings:
            return "" if self.found else text
        text = self._held + text
        # the first to be complete, as if the text had come letter by letter
        found = [(place + len(ending), place) for ending in self._endings if (place := text.find(ending)) >= 0]
        self.found = bool(found)
        cut = min(found)[1] if found else len(text) - max(overlap(text, ending) for ending in self._endings)
        self._held = "" if found else text[cut:]
        return text[:cut]

    def end(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return held
