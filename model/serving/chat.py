"""Conversations to tokens and tokens back to reasoning and answer, for serving.

What people write is never read as control tokens: each message is encoded apart, with a tokenizer that knows no
special token, and the control tokens are set between the pieces by number. For text without such tokens the result is
that of the chat template.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model.generation.generate import token_id

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ROLES", "ChatFormat", "Piece", "ReasoningSplitter", "Turn", "split"]

ROLES = ("system", "developer", "user", "assistant")
"""Roles that a message may have; `developer` is OpenAI's newer name of `system`."""
OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Turn:
    """One message."""

    role: str
    content: str
    reasoning: str = ""
    """Of an assistant's message: the thoughts before its answer."""


class ChatFormat:
    """The chat format of `pipeline.tokens.tokenizer` over one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = tokenizer
        state = json.loads(tokenizer.to_str())
        state["added_tokens"] = []
        self._plain = Tokenizer.from_str(json.dumps(state))
        names = ("<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", OPEN, CLOSE)
        self.bos, self.eos, self._user, self._assistant, self._open, self._close = (
            token_id(tokenizer, name) for name in names
        )

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text; what looks like a control token is text too."""
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Tokens of a conversation up to where the model takes over."""
        tokens = [self.bos]
        for turn in turns:
            if turn.role == "user":
                tokens += [self._user, *self.encode(turn.content)]
            elif turn.role == "assistant":
                thought = [self._open, *self.encode(turn.reasoning), self._close]
                tokens += [self._assistant, *thought, *self.encode(turn.content), self.eos]
            else:
                tokens += self.encode(turn.content)
        return [*tokens, self._assistant]


@dataclass
class Piece:
    """A part of what the model wrote: thoughts, answer, or both."""

    reasoning: str = ""
    content: str = ""

    def __bool__(self) -> bool:
        return bool(self.reasoning or self.content)


@dataclass
class ReasoningSplitter:
    """Tells thoughts from the answer while the text streams in, however it is cut.

    A text that begins with ``<think>`` is reasoning up to ``</think>``, or to its end; all else is answer. White space
    around either is dropped.
    """

    _held: str = ""
    """Text that may be the beginning of a tag, or white space at an end."""
    _state: str = field(default="start")

    def feed(self, text: str) -> Piece:
        """What of the text so far can be told apart for sure and was not returned before."""
        self._held += text
        piece = Piece()
        if self._state == "start":
            self._held = self._held.lstrip()
            if self._held.startswith(OPEN):
                self._held, self._state = self._held.removeprefix(OPEN).lstrip(), "think begins"
            elif OPEN.startswith(self._held):
                return piece
            else:
                self._state = "answer begins"
        if self._state.startswith("think"):
            thought, closed, rest = self._held.partition(CLOSE)
            if closed:
                piece.reasoning = self._take(thought).rstrip()
                self._held, self._state = rest, "answer begins"
            else:
                kept = _tail_of_tag(thought)
                ready = thought[: len(thought) - kept]
                piece.reasoning = self._take(ready.rstrip())
                if piece.reasoning:
                    self._state = "think"
                    self._held = thought[len(ready.rstrip()) :]
                else:
                    self._held = thought.lstrip() if self._state == "think begins" else thought
                return piece
        begins = self._state == "answer begins"
        text = self._held.lstrip() if begins else self._held
        piece.content = text.rstrip()
        self._held = text[len(piece.content) :]
        if piece.content:
            self._state = "answer"
        return piece

    def _take(self, thought: str) -> str:
        return thought.lstrip() if self._state == "think begins" else thought

    def end(self) -> Piece:
        """What was held back."""
        held, self._held = self._held.rstrip(), ""
        if self._state.startswith("think"):
            return Piece(reasoning=self._take(held))
        return Piece(content=held.lstrip() if self._state in ("start", "answer begins") else held)


def split(text: str) -> tuple[str, str]:
    """A whole text as (reasoning, answer): what `ReasoningSplitter` makes of it in any pieces."""
    splitter = ReasoningSplitter()
    first, last = splitter.feed(text), splitter.end()
    return first.reasoning + last.reasoning, first.content + last.content


def _tail_of_tag(text: str) -> int:
    """Length of the end of `text` that may be the beginning of the closing tag."""
    for length in range(min(len(CLOSE) - 1, len(text)), 0, -1):
        if CLOSE.startswith(text[-length:]):
            return length
    return 0
