"""Tools in a conversation: how calls are written, and what a chat template that knows no tools is given instead.

That is text in the form that Hermes and Qwen made common: signatures between ``<tools>`` tags in the system text, a
call as JSON between ``<tool_call>`` tags, a tool's answer between ``<tool_response>`` tags in the next message of the
user. `CHAT_TEMPLATE` writes the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from infra.json_objects import JsonObject
from pipeline.tokens.messages import Call, Turn

__all__ = ["CALL", "CALL_END", "LISTED", "TRIAL", "CallStyle", "Tool", "arguments_of", "as_text", "style_of"]

CALL, CALL_END = "<tool_call>", "</tool_call>"
"""What a call of a tool stands between."""


LISTED = "[TOOL_CALLS]"
"""A control token of Mistral's, behind which a list of calls stands."""


class CallStyle(Enum):
    """How a model writes calls."""

    TAGGED = "tagged"
    """Hermes and Qwen: JSON with name and arguments between tags."""
    BARE = "bare"
    """Llama 3.1: an answer that is JSON with name and parameters."""
    LISTED = "listed"
    """Mistral: a JSON list of objects with name and arguments, behind a control token."""

    @property
    def arguments(self) -> str:
        """The key of the arguments."""
        return "parameters" if self is CallStyle.BARE else "arguments"


_TRIED = r'\{"name": ?"deepmilltool", ?"%s": ?\{"deepmillkey": ?1\}'
TRIAL = Call("deepmilltool", '{"deepmillkey": 1}', "deepmill1")  # Mistral takes an id of nine letters or figures
_STYLES = {
    CallStyle.TAGGED: re.compile(rf"{CALL}\s*{_TRIED % 'arguments'}\}}\s*{CALL_END}"),
    CallStyle.BARE: re.compile(rf"\A\s*{_TRIED % 'parameters'}\}}"),
    CallStyle.LISTED: re.compile(rf"\A\s*{re.escape(LISTED)}\s*\[{_TRIED % 'arguments'}"),
}


def style_of(answer: str) -> CallStyle | None:
    """How a template writes calls that has written `TRIAL` so; None for a way that is not read here."""
    return next((style for style, written in _STYLES.items() if written.search(answer)), None)


@dataclass(frozen=True)
class Tool:
    """A function that the model may ask for."""

    name: str
    parameters: JsonObject
    """JSON Schema of its arguments."""
    description: str = ""
    strict: bool = False
    """Whether the arguments must follow the schema."""

    @property
    def signature(self) -> JsonObject:
        """As OpenAI's API has it, and templates take it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


def arguments_of(call: Call) -> JsonObject | str:
    """Its arguments as templates take them: the object, or the text where it is none."""
    try:
        found = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return call.arguments
    return found if isinstance(found, dict) else call.arguments


def as_text(turns: Sequence[Turn], tools: Sequence[Tool]) -> list[Turn]:
    """The conversation with the tools in its system text, calls in the answers, and what tools answered as the user's
    words."""
    found: list[Turn] = []
    previous = None
    for turn in turns:
        if turn.role == "tool":
            answer = f"<tool_response>\n{turn.content}\n</tool_response>"
            if previous == "tool":
                found[-1] = Turn("user", f"{found[-1].content}\n{answer}")
            else:
                found.append(Turn("user", answer))
        elif turn.calls:
            content = "\n".join([*([turn.content] if turn.content else []), *map(_written, turn.calls)])
            found.append(replace(turn, content=content, calls=()))
        else:
            found.append(turn)
        previous = turn.role
    if not tools:
        return found
    offer = _offer(tools)
    if found and found[0].role in ("system", "developer"):
        return [Turn("system", f"{found[0].content}\n\n{offer}"), *found[1:]]
    return [Turn("system", offer), *found]


def _written(call: Call) -> str:
    arguments = arguments_of(call)
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'{CALL}\n{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {text}}}\n{CALL_END}'


def _offer(tools: Sequence[Tool]) -> str:
    return "\n".join(
        [
            "You may call these functions:",
            "<tools>",
            *(json.dumps(tool.signature, ensure_ascii=False) for tool in tools),
            "</tools>",
            "To call one, write its name and arguments as JSON between tags:",
            f'{CALL}\n{{"name": <name>, "arguments": <object>}}\n{CALL_END}',
        ]
    )
