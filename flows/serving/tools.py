"""Calls of tools, told from the text of an answer."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from flows.serving.shapes import Call
from model.generation.reasoning import overlap
from pipeline.tokens.tools import CALL, CALL_END, LISTED, CallStyle

__all__ = ["CallSplitter"]


@dataclass
class CallSplitter:
    """Tells calls from text while an answer streams in. What only looks like a call stays text."""

    names: frozenset[str]
    """Of the tools; without any all is text."""
    many: bool = True
    """Whether more than one call is wanted; else the answer is over after the first."""
    style: CallStyle = CallStyle.TAGGED
    """How the model writes them. Those without tags are an answer's beginning, and told at its end."""
    calls: list[Call] = field(default_factory=list)
    _held: str = ""
    _is_text: bool = False
    """Whether an answer without tags is known to be no call."""
    _is_behind_call: bool = False
    """Whether blanks that come next belong to the call before."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is wanted of the answer."""
        return bool(self.calls) and not self.many

    def feed(self, text: str) -> tuple[str, list[Call]]:
        """What of the text so far is sure to be text, and the calls that it completed."""
        if not self.names:
            return text, []
        self._held += text
        if self.style is not CallStyle.TAGGED:
            return self._before_end(), []
        self._pass_blanks()
        said, found = "", []
        while not self.is_over:
            before, _, rest = self._held.partition(CALL)
            body, ended, after = rest.partition(CALL_END)
            if not ended:
                break
            if call := self._read(body):
                said, self._held, self._is_behind_call = said + before, after, True
                self._pass_blanks()
                self.calls.append(call)
                found.append(call)
            else:
                said, self._held = f"{said}{before}{CALL}{body}{CALL_END}", after
        if self.is_over:
            self._held = ""
        place = self._held.find(CALL)
        cut = place if place >= 0 else len(self._held) - overlap(self._held, CALL)
        said, self._held = said + self._held[:cut], self._held[cut:]
        return said, found

    def _pass_blanks(self) -> None:
        if self._is_behind_call:
            self._held = self._held.lstrip()
            self._is_behind_call = not self._held

    def _before_end(self) -> str:
        """What of an answer without tags is sure to be text: all, where it does not begin as a call does."""
        begun, sign = self._held.lstrip(), "{" if self.style is CallStyle.BARE else "["
        if not self._is_text and (not begun or begun.startswith(sign)):
            return ""
        self._is_text = True
        said, self._held = self._held, ""
        return said

    def end(self) -> tuple[str, list[Call]]:
        """What was held back, and the calls in it."""
        held, self._held = self._held, ""
        if self.style is CallStyle.TAGGED or not self.names:
            return held, []
        found = [self._call(told) for told in _objects(held)]
        calls = [call for call in found if call is not None]
        if not calls or len(calls) < len(found):
            return held, []
        self.calls += calls if self.many else calls[:1]
        return "", self.calls

    def _read(self, body: str) -> Call | None:
        try:
            return self._call(json.loads(body))
        except (ValueError, RecursionError):
            return None

    def _call(self, told: Any) -> Call | None:
        try:
            name, arguments = told["name"], told.get(self.style.arguments, {})
        except (KeyError, TypeError, AttributeError):
            return None
        if not isinstance(name, str) or name not in self.names:
            return None
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return {
            # Mistral's template takes ids of nine letters and figures alone
            "id": secrets.token_hex(5)[:9] if self.style is CallStyle.LISTED else f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {"name": name, "arguments": text},
        }


_BETWEEN = re.compile(r"[\s;,]*")
_DECODER = json.JSONDecoder()


def _objects(text: str) -> list[Any]:
    """The values of JSON that a text is, one behind another or in a list; nothing where it is anything else."""
    text = text.strip().removeprefix(LISTED).strip()
    found: list[Any] = []
    place = 0
    try:
        while place < len(text):
            value, place = _DECODER.raw_decode(text, place)
            found += value if isinstance(value, list) else [value]
            place = _BETWEEN.match(text, place).end()  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        return []
    return found
