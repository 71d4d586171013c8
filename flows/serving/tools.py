"""Tools in a conversation: how they are offered to the model, and how its calls are told from its text.

The chat format has no tokens for tools, so they are text, in the form that Hermes and Qwen made common: signatures
between ``<tools>`` tags in the system text, a call as JSON between ``<tool_call>`` tags, a tool's answer between
``<tool_response>`` tags in the next message of the user.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from flows.serving.shapes import Call
from model.generation.reasoning import overlap
from model.serving.grammar import CALL, CALL_END, Tool
from pipeline.tokens.chat import Turn

__all__ = ["CallSplitter", "with_tools"]


def with_tools(turns: Sequence[Turn], tools: Sequence[Tool]) -> list[Turn]:
    """The conversation with the tools in its system text, and with what tools answered as the user's words."""
    found: list[Turn] = []
    previous = None
    for turn in turns:
        if turn.role == "tool":
            answer = f"<tool_response>\n{turn.content}\n</tool_response>"
            if previous == "tool":
                found[-1] = Turn("user", f"{found[-1].content}\n{answer}")
            else:
                found.append(Turn("user", answer))
        else:
            found.append(turn)
        previous = turn.role
    if not tools:
        return found
    offer = _offer(tools)
    if found and found[0].role in ("system", "developer"):
        return [Turn("system", f"{found[0].content}\n\n{offer}"), *found[1:]]
    return [Turn("system", offer), *found]


def _offer(tools: Sequence[Tool]) -> str:
    signatures = [
        json.dumps(
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            },
            ensure_ascii=False,
        )
        for tool in tools
    ]
    return "\n".join(
        [
            "You may call these functions:",
            "<tools>",
            *signatures,
            "</tools>",
            "To call one, write its name and arguments as JSON between tags:",
            f'{CALL}\n{{"name": <name>, "arguments": <object>}}\n{CALL_END}',
        ]
    )


@dataclass
class CallSplitter:
    """Tells calls from text while an answer streams in. What only looks like a call stays text."""

    names: frozenset[str]
    """Of the tools; without any all is text."""
    many: bool = True
    """Whether more than one call is wanted; else the answer is over after the first."""
    calls: list[Call] = field(default_factory=list)
    _held: str = ""
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

    def end(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return held

    def _read(self, body: str) -> Call | None:
        try:
            told = json.loads(body)
            name, arguments = told["name"], told.get("arguments", {})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if name not in self.names:
            return None
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return {
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {"name": name, "arguments": text},
        }
