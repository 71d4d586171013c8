"""Text to token ids where nothing is a control token: what people, data rows and models write stays text.

A tokenizer of SentencePiece's kind sets a blank before some texts: it matters what stands before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from enum import Enum
from typing import TYPE_CHECKING

from infra.json_objects import JsonObject
from pipeline.tokens.chat_template import VISIBLE_TOKENS
from pipeline.tokens.sentencepiece import Prefix, is_in_pieces, prefix_of, without_prefix

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["After", "PlainText", "control_names", "without_special"]


class After(Enum):
    """What stands before a text."""

    NOTHING = "nothing"
    CONTROL = "control"
    """A control token."""
    TEXT = "text"


def control_names(tokenizer: Tokenizer, template: str = "") -> dict[int, str]:
    """Number and name of the tokens that no text may hold: special ones, the marks of the reasoning, and those that the
    template sets."""
    return {
        number: token.content
        for number, token in tokenizer.get_added_tokens_decoder().items()
        if token.special or token.content in VISIBLE_TOKENS or (token.content.strip() and token.content in template)
    }


class PlainText:
    """Encodes text in which none of `names` (by default those of `control_names`) is a token."""

    def __init__(self, tokenizer: Tokenizer, names: dict[int, str] | None = None) -> None:
        names = control_names(tokenizer) if names is None else names
        self._control = frozenset(names)
        # Between the first character of a control token's name and the rest of it.
        inside = (f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in names.values() if len(name) > 1)
        self._seam = re.compile("|".join(inside) or "(?!)")
        self._tokenizer, self._names = tokenizer, frozenset(names.values())
        self._prefix = prefix_of(json.loads(tokenizer.to_str())) if is_in_pieces(tokenizer) else None
        self._cutters = {After.CONTROL: without_special(tokenizer, self._names)}

    def sets_blank(self, after: After) -> bool:
        """Whether a blank is set before a text there."""
        if self._prefix is Prefix.FIRST:
            return after is After.NOTHING
        return self._prefix in (Prefix.EVERY, Prefix.UNLESS) and after is not After.TEXT

    def __call__(self, text: str, after: After = After.CONTROL) -> list[int]:
        """The ids of `text`, which stands behind a control token unless told otherwise."""
        found = self._ids(text, after)
        if self._control.isdisjoint(found):
            return found
        # Some models hold control tokens among their pieces and find them there: cut the names in two.
        first, *others = self._seam.split(text)
        found = [*self._ids(first, after), *(number for piece in others for number in self._ids(piece, After.TEXT))]
        return [number for number in found if number not in self._control]

    def _cutter(self, after: After) -> Tokenizer:
        if self.sets_blank(after) == self.sets_blank(After.CONTROL):
            after = After.CONTROL
        if after not in self._cutters:
            self._cutters[after] = without_special(self._tokenizer, self._names, after)
        return self._cutters[after]

    def _ids(self, text: str, after: After) -> list[int]:
        if not text.isascii():  # half a character, of JSON or a terminal, is what any decoder makes of it
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return list(self._cutter(after).encode(text, add_special_tokens=False).ids)


def without_special(tokenizer: Tokenizer, names: Collection[str] = (), after: After = After.CONTROL) -> Tokenizer:
    """A copy for text in the middle of a conversation, which finds neither special tokens nor those of `names`."""
    from tokenizers import Tokenizer

    state: JsonObject = json.loads(tokenizer.to_str())
    state |= {"truncation": None, "padding": None}
    for token in state["added_tokens"]:
        token["special"] = token["special"] or token["content"] in names
    if after is After.TEXT:
        state = without_prefix(state)
    parts = state["pre_tokenizer"] or {}
    for part in (parts, *parts.get("pretokenizers", ())):
        if after is After.CONTROL and part.get("type") == "Metaspace" and part.get("prepend_scheme") == "first":
            part["prepend_scheme"] = "never"  # a control token comes first
        if part.get("type") == "Split" and part["pattern"].get("Regex") == r"\s+$":
            # The same pieces, but not looked for from every space of a long run anew (quadratic).
            part["pattern"]["Regex"] = r"(?<!\s)\s+$"
    copy = Tokenizer.from_str(json.dumps(state))
    copy.encode_special_tokens = True
    return copy
