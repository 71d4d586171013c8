"""Conversations to token ids: the one way for training, evaluation, serving, the terminal and MLflow's model.

What people, data rows and models write is text and stays text: each piece is encoded apart, by a tokenizer that reads
no control token in it, and the control tokens of the chat format are set between the pieces by number. For text that
names no control token the ids are those of `pipeline.tokens.tokenizer.chat_text`, encoded whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from infra.errors import UserError
from infra.json_objects import JsonObject
from pipeline.tokens.tokenizer import VISIBLE_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ROLES", "ChatFormat", "Turn", "chat_format", "token_id"]

ROLES = ("system", "developer", "user", "assistant")
"""Roles that a message may have; `developer` is OpenAI's newer name of `system`."""
OPEN, CLOSE = VISIBLE_TOKENS


@dataclass(frozen=True)
class Turn:
    """One message."""

    role: str
    content: str
    reasoning: str = ""
    """Of an assistant's message: what comes before its answer."""


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Number of a special token; UserError when the vocabulary lacks it."""
    number = tokenizer.token_to_id(token)
    if number is None:
        raise UserError(f"the tokenizer has no {token}, which the chat format needs; see tokenizer.adopt")
    return int(number)


class ChatFormat:
    """The chat format of `pipeline.tokens.tokenizer` over one tokenizer, which is left as it is.

    Raises:
        UserError: the vocabulary lacks a token of the format.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._text = PlainText(tokenizer)
        self._written = _copy(tokenizer)
        self._written.encode_special_tokens = True
        names = ("<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", OPEN, CLOSE)
        self.bos, self.eos, self._user, self._assistant, self._open, self._close = (
            token_id(tokenizer, name) for name in names
        )

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text; what looks like a control token is text too."""
        return self._text(text)

    def written(self, text: str) -> list[int]:
        """Tokens of what a model wrote: the marks of the reasoning are its own, all else is text."""
        return list(self._written.encode(text, add_special_tokens=False).ids)

    def prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Tokens of a conversation up to where the model takes over."""
        tokens = [self.bos]
        for turn in turns:
            if turn.role == "user":
                tokens += [self._user, *self.encode(turn.content)]
            elif turn.role == "assistant":
                tokens += [self._assistant, *self.response(turn.reasoning, turn.content)]
            else:
                tokens += self.encode(turn.content)
        return [*tokens, self._assistant]

    def question(self, text: str) -> list[int]:
        """Tokens of a conversation that is one question."""
        return self.prompt([Turn("user", text)])

    def response(self, reasoning: str, answer: str) -> list[int]:
        """Tokens of what the model is to write: reasoning between its marks, the answer, the end."""
        return [*self.no_reasoning(reasoning), *self.encode(answer), self.eos]

    def no_reasoning(self, reasoning: str = "") -> list[int]:
        """Tokens of the reasoning between its marks, by itself that of an answer without any."""
        return [self._open, *self.encode(reasoning), self._close]


class PlainText:
    """Encodes text in which nothing is a control token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        names = {
            number: token.content
            for number, token in tokenizer.get_added_tokens_decoder().items()
            if token.special or token.content in VISIBLE_TOKENS
        }
        self._control = frozenset(names)
        # Between the first character of a control token's name and the rest of it.
        inside = (f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in names.values() if len(name) > 1)
        self._seam = re.compile("|".join(inside) or "(?!)")
        self._tokenizer = _copy(tokenizer, hidden=True)
        self._tokenizer.encode_special_tokens = True

    def __call__(self, text: str) -> list[int]:
        """The ids of `text`."""
        found = self._ids(text)
        if self._control.isdisjoint(found):
            return found
        # Some models hold control tokens among their pieces and find them there: cut the names in two.
        found = [number for piece in self._seam.split(text) for number in self._ids(piece)]
        return [number for number in found if number not in self._control]

    def _ids(self, text: str) -> list[int]:
        if not text.isascii():  # half a character, of JSON or a terminal, is what any decoder makes of it
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _copy(tokenizer: Tokenizer, hidden: bool = False) -> Tokenizer:
    """A copy for text in the middle of a conversation; `hidden` makes the visible marks special tokens."""
    from tokenizers import Tokenizer

    state: JsonObject = json.loads(tokenizer.to_str())
    state |= {"truncation": None, "padding": None}
    for token in state["added_tokens"] if hidden else ():
        token["special"] = token["special"] or token["content"] in VISIBLE_TOKENS
    parts = state["pre_tokenizer"] or {}
    for part in (parts, *parts.get("pretokenizers", ())):
        if part.get("type") == "Metaspace" and part.get("prepend_scheme") == "first":
            part["prepend_scheme"] = "never"  # a control token comes first
        if part.get("type") == "Split" and part["pattern"].get("Regex") == r"\s+$":
            # The same pieces, but not looked for from every space of a long run anew (quadratic).
            part["pattern"]["Regex"] = r"(?<!\s)\s+$"
    return Tokenizer.from_str(json.dumps(state))


@lru_cache(maxsize=4)
def chat_format(tokenizer: Tokenizer) -> ChatFormat:
    """The format over `tokenizer`, made once."""
    return ChatFormat(tokenizer)
