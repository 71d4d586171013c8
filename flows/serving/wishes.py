"""Pieces of OpenAI's requests beside messages: tools, and the format of an answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.json_objects import JsonObject

__all__ = ["Format", "NamedTool", "OfferedTool"]


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
