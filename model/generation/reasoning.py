"""Reasoning told from the answer in what a model wrote: one way for evaluation, rewards, serving and MLflow."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["CLOSE", "OPEN", "Piece", "ReasoningSplitter", "overlap", "split_reasoning"]

OPEN, CLOSE = "<think>", "</think>"
_TAG = re.compile(f"{OPEN}|{CLOSE}")


@dataclass
class Piece:
    """A part of what the model wrote: reasoning, answer, or both."""

    reasoning: str = ""
    content: str = ""

    def __bool__(self) -> bool:
        return bool(self.reasoning or self.content)


@dataclass
class ReasoningSplitter:
    """Tells reasoning from the answer while the text streams in, however it is cut.

    The first tag decides. After ``<think>`` comes reasoning, up to ``</think>`` or to the end, and what stood before it
    is dropped. A ``</think>`` that nothing opened ends reasoning that began with the text, for the prompt may have
    opened it. Without tags all is answer, which is known at the end only. White space around either is dropped.

    Whoever knows the prompt knows better: with `waits` off, a text that does not begin with ``<think>`` is an answer at
    once. (Where the prompt has opened the reasoning, feed ``<think>`` first.)
    """

    waits: bool = True
    goes_on: bool = False
    """Whether an answer has begun before the text: all of it is answer, blanks at its beginning too."""
    _held: str = ""
    """What cannot be told apart yet: a beginning without tags, what may be part of a tag, white space at an end."""
    _state: str = field(default="start")
    _begun: bool = False
    """Whether something of the present part was told: from then on white space before it counts."""

    def __post_init__(self) -> None:
        if self.goes_on:
            self._state, self._begun = "answer", True

    def feed(self, text: str) -> Piece:
        """What of the text so far can be told apart for sure and was not returned before."""
        self._held += text
        piece = Piece()
        if self._state == "start":
            tag = _TAG.search(self._held, max(0, len(self._held) - len(text) - len(CLOSE)))
            begun = self._held.lstrip()
            if not self.waits and begun and not (begun.startswith(OPEN) or OPEN.startswith(begun)):
                self._state = "answer"
            elif tag is None:
                return piece
            else:
                if tag[0] == OPEN:
                    self._held = self._held[tag.end() :]
                self._state = "reasoning"
        if self._state == "reasoning":
            thought, closed, rest = self._held.partition(CLOSE)
            sure = len(thought) if closed else len(thought) - overlap(thought, CLOSE)
            piece.reasoning = self._tell(thought[:sure], thought[sure:])
            if not closed:
                return piece
            self._held, self._state, self._begun = rest, "answer", False
        piece.content = self._tell(self._held)
        return piece

    @property
    def has_begun(self) -> bool:
        """Whether it is known what the text begins with."""
        return self._state != "start"

    @property
    def is_answering(self) -> bool:
        """Whether the reasoning is over, or never was."""
        return self._state == "answer"

    def _tell(self, text: str, later: str = "") -> str:
        """`text` without the white space at its end, which is held with `later`."""
        text = text if self._begun else text.lstrip()
        told = text.rstrip()
        self._held = text[len(told) :] + later
        self._begun = self._begun or bool(told)
        return told

    def end(self) -> Piece:
        """What was held back."""
        rest = self._tell(self._held)
        return Piece(reasoning=rest) if self._state == "reasoning" else Piece(content=rest)


def split_reasoning(text: str) -> tuple[str, str]:
    """A whole text as (reasoning, answer): what `ReasoningSplitter` makes of it in any pieces.

    Without tags everything is answer; reasoning that never ends leaves no answer.
    """
    splitter = ReasoningSplitter()
    first, last = splitter.feed(text), splitter.end()
    return first.reasoning + last.reasoning, first.content + last.content


def overlap(text: str, ending: str) -> int:
    """Length of the end of `text` with which `ending` may have begun."""
    return next((n for n in range(min(len(ending) - 1, len(text)), 0, -1) if text.endswith(ending[:n])), 0)
