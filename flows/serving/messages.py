"""Pieces of OpenAI's requests: messages with their calls, tools, and the format of an answer."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.json_objects import JsonObject
from model.serving.grammar import CALL, CALL_END
from pipeline.tokens.chat import Turn

__all__ = ["ROLES", "Format", "Message", "NamedTool", "OfferedTool"]

ROLES = ("system", "developer", "user", "assistant", "tool")


class _Part(BaseModel):
    """A piece of a message's content. Text is all a language model reads."""

    type: Literal["text"]
    text: str


class _CalledFunction(BaseModel):
    """What an earlier answer called."""

    name: str
    arguments: str

    @property
    def text(self) -> str:
        """As the model wrote it."""
        try:
            arguments = json.loads(self.arguments or "{}")
        except ValueError:
            arguments = self.arguments
        written = json.dumps({"name": self.name, "arguments": arguments}, ensure_ascii=False)
        return f"{CALL}\n{written}\n{CALL_END}"


class _Called(BaseModel):
    """A call in an earlier answer."""

    type: Literal["function"] = "function"
    function: _CalledFunction


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[_Part], Field(min_length=1)] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    name: str | None = None
    """Of who speaks; the chat format has no place for it."""
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

    @property
    def text(self) -> str:
        """The content with its calls."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return "\n".join([*([text] if text else []), *(call.function.text for call in self.tool_calls or ())])

    def turn(self) -> Turn:
        """As the chat format takes it."""
        return Turn(self.role, self.text, self.reasoning_content or self.reasoning or "")


class _Schema(BaseModel):
    """A named JSON Schema."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str = Field("answer", max_length=64)
    description: str | None = None
    schema_: JsonObject = Field(default_factory=lambda: {"type": "object"}, alias="schema")
    strict: bool | None = None


class Format(BaseModel):
    """What an answer is to be; a schema is always held, `strict` or not."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> Format:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema: its schema is missing")
        return self

    @property
    def schema_wanted(self) -> JsonObject | None:
        """None where any text will do."""
        if self.type == "text":
            return None
        return {"type": "object"} if self.json_schema is None else self.json_schema.schema_


class _Function(BaseModel):
    """A function that may be called."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class OfferedTool(BaseModel):
    """A tool; functions are all there is."""

    type: Literal["function"]
    function: _Function


class _NamedFunction(BaseModel):
    name: str


class NamedTool(BaseModel):
    """The one tool that has to be called."""

    type: Literal["function"] = "function"
    function: _NamedFunction
