"""What clients send and get: OpenAI's shapes, checked. What would change an answer and is not supported is refused."""

from __future__ import annotations

import time
import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from model.serving.chat import ROLES, Turn

__all__ = ["ApiError", "ChatBody", "CompletionBody", "Sampled", "parse"]


class ApiError(Exception):
    """An answer in OpenAI's form of an error."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, retry: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry = status, message, code, param, retry

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        if self.status == 429:
            kind = "rate_limit_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class _Part(BaseModel):
    """A piece of a message's content. Text is all a language model reads."""

    type: Literal["text"]
    text: str


class _Message(BaseModel):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part] | None = None
    reasoning_content: str | None = None

    def turn(self) -> Turn:
        """As the chat format takes it."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return Turn(self.role, text, self.reasoning_content or "")


class _StreamOptions(BaseModel):
    """Of a streamed answer."""

    include_usage: bool = False


class Sampled(BaseModel):
    """What chat and plain completions have in common."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field(max_length=300)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    n: Literal[1] | None = None

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> list[str]:
        endings = [stop] if isinstance(stop, str) else stop or []
        if len(endings) > 4 or not all(1 <= len(ending) <= 200 for ending in endings):
            raise ValueError("at most 4 sequences of 1 to 200 characters")
        return endings

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


REFUSED: dict[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "frequency_penalty": (None, 0, 0.0),
    "presence_penalty": (None, 0, 0.0),
    "response_format": (None, {"type": "text"}),
    "echo": (None, False),
    "best_of": (None, 1),
    "suffix": (None, ""),
    "audio": (None,),
}
"""Keys of OpenAI's that would change the answer, with the values that ask for nothing."""


class ChatBody(Sampled):
    """``POST /v1/chat/completions``."""

    messages: list[_Message] = Field(min_length=1, max_length=1000)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer, thoughts included."""
        return self.max_completion_tokens or self.max_tokens


class CompletionBody(Sampled):
    """``POST /v1/completions``: text, or token ids, continued as it is."""

    prompt: str | list[int] | list[str]

    @property
    def limit(self) -> int | None:
        """Most tokens of the continuation."""
        return self.max_tokens


def parse(kind: type[Any], values: Any) -> Any:
    """`values` as `kind`; ApiError 400 that names the key otherwise."""
    if not isinstance(values, dict):
        raise ApiError(400, f"the body is a JSON object, not a {type(values).__name__}")
    for key, nothing in REFUSED.items():
        if values.get(key) not in nothing:
            raise ApiError(400, f"{key}: not supported here; leave it out", param=key, code="unsupported_parameter")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"] if not isinstance(part, str) or part.isidentifier())
        message = first["msg"]
        if first["loc"][-1:] == ("role",):
            message = f"unknown role {str(first['input'])[:40]!r}; there are {', '.join(ROLES)}"
        raise ApiError(400, f"{key}: {message}", param=key, code="invalid_value") from None


def answer_head(kind: str, label: str) -> dict[str, Any]:
    """The fields with which every answer and every chunk begins."""
    prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": label,
        "system_fingerprint": label,
    }
