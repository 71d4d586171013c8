"""Messages of a conversation: as clients of OpenAI's API write them, and as the chat format takes them.

The server, MLflow's model and the terminal read the same messages, and refuse the same ones in one line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator

from infra.errors import first_problem

__all__ = ["ROLES", "Call", "Message", "Turn", "read_turns"]

ROLES = ("system", "developer", "user", "assistant", "tool")
"""Roles that a message may have; `developer` is OpenAI's newer name of `system`."""


@dataclass(frozen=True)
class Call:
    """A tool that an answer called."""

    name: str
    arguments: str
    """JSON, as the model wrote it."""
    id: str = ""


@dataclass(frozen=True)
class Turn:
    """One message."""

    role: str
    content: str
    reasoning: str = ""
    """Of an assistant's message: what comes before its answer."""
    is_learned: bool = True
    """Of an assistant's message in training: whether the model learns to write it."""
    calls: tuple[Call, ...] = ()
    """Of an assistant's message: the tools that it calls behind its content."""
    call_id: str = ""
    """Of a tool's message: the call that it answers."""
    name: str = ""
    """Of who speaks, for the templates that write it."""
    parts: tuple[str, ...] = ()
    """Of content that came in several parts: those. Templates that take no parts get a line break between them."""


class _Part(BaseModel):
    """A piece of a message's content. Text is all a language model reads."""

    type: Literal["text"]
    text: str


class _CalledFunction(BaseModel):
    """What an earlier answer called."""

    name: str
    arguments: str


class _Called(BaseModel):
    """A call in an earlier answer."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: _CalledFunction


_Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[_Part], Field(min_length=1), Tag("parts")],
    Discriminator(lambda content: "parts" if isinstance(content, list) else "text"),
]
"""One of the two by what was given, so that what is wrong is told of that one."""


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: _Content | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    name: str | None = None
    """Of who speaks; most chat templates have no place for it."""
    tool_calls: list[_Called] | None = None
    tool_call_id: str | None = None
    """Which call a tool's message answers; answers stand in the calls' order."""

    @model_validator(mode="after")
    def _is_text(self) -> Message:
        """The empty things that clients send back from an answer are nothing."""
        if given := next((key for key, value in (self.model_extra or {}).items() if value), None):
            raise ValueError(f"{given[:100]}: not supported here; leave it out")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls: an assistant's message has them")
        if self.content is None and self.role != "assistant":
            raise ValueError("its content is missing")
        return self

    def turn(self) -> Turn:
        """As the chat format takes it."""
        content = [self.content] if isinstance(self.content, str) else [part.text for part in self.content or ()]
        calls = (Call(each.function.name, each.function.arguments, each.id or "") for each in self.tool_calls or ())
        return Turn(
            self.role,
            "".join(content),
            self.reasoning_content or self.reasoning or "",
            calls=tuple(calls),
            call_id=self.tool_call_id or "",
            name=self.name or "",
            parts=tuple(content) if len(content) > 1 else (),
        )


_MESSAGES = TypeAdapter(Annotated[list[Message], Field(min_length=1)])


def read_turns(text: str) -> list[Turn]:
    """A conversation out of JSON.

    Raises:
        ValueError: it is none; one line that says why.
    """
    try:
        return [message.turn() for message in _MESSAGES.validate_json(text)]
    except ValidationError as error:
        raise ValueError(
            f"messages: {text[:80]} is no JSON list of objects with a role ({', '.join(ROLES)}) and content "
            f"({first_problem(error)})"
        ) from None
