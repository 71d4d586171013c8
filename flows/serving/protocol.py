"""What clients send and get: OpenAI's shapes, checked. What would change an answer and is not supported is refused."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import Counter
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from infra.json_objects import JsonObject
from model.serving.chat import ROLES, Turn

__all__ = [
    "AnswerBody",
    "AnswerHead",
    "ApiError",
    "ChatBody",
    "Choice",
    "CompletionBody",
    "ErrorBody",
    "Message",
    "ModelCard",
    "Sampled",
    "Usage",
    "answer_head",
    "fault",
    "parse",
    "read_json",
]

_SURROGATE = re.compile("[\ud800-\udfff]")


class ErrorDetail(TypedDict):
    """Of an error, in OpenAI's form."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """The JSON of an error."""

    error: ErrorDetail


class AnswerHead(TypedDict):
    """The fields with which every answer and every chunk begins."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str


class CompletionDetails(TypedDict):
    """What the completion's tokens were."""

    reasoning_tokens: int


class Usage(TypedDict):
    """Tokens, as OpenAI counts them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: NotRequired[CompletionDetails]


class Message(TypedDict):
    """A whole answer of a chat."""

    role: str
    content: str
    reasoning_content: str | None


class Choice(TypedDict):
    """An answer, or a piece of one: `message` and `delta` of a chat, `text` of a completion."""

    index: int
    message: NotRequired[Message]
    delta: NotRequired[dict[str, str]]
    text: NotRequired[str]
    finish_reason: str | None
    logprobs: NotRequired[None]


class AnswerBody(AnswerHead):
    """A whole answer, or a chunk of a stream."""

    choices: list[Choice]
    usage: NotRequired[Usage]


class ModelCard(TypedDict):
    """An entry of the list of models."""

    id: str
    object: str
    created: int
    owned_by: str
    version: str
    context: int


class ApiError(Exception):
    """An answer in OpenAI's form of an error."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, retry: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry = status, message, code, param, retry

    def body(self) -> ErrorBody:
        """The JSON of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        if self.status == 429:
            kind = "rate_limit_error"
        message = self.message.encode(errors="replace").decode()  # it may quote half a character
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}


def fault(number: str) -> ApiError:
    """What a client is told of an error of ours; the log has its traceback under the same number."""
    return ApiError(500, f"an error of the server; its log tells more under {number}", code="internal_error")


class _Part(BaseModel):
    """A piece of a message's content. Text is all a language model reads."""

    type: Literal["text"]
    text: str


class _Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[_Part], Field(min_length=1)] | None = None
    reasoning_content: str | None = None
    name: str | None = None
    """Of who speaks; the chat format has no place for it."""

    @model_validator(mode="after")
    def _is_text(self) -> _Message:
        """Tool calls and the like are no text; the empty ones that clients send back from an answer are nothing."""
        if given := next((key for key, value in (self.model_extra or {}).items() if value), None):
            raise ValueError(f"{given[:100]}: not supported here; leave it out")
        if self.content is None and self.role != "assistant":
            raise ValueError("its content is missing")
        return self

    def turn(self) -> Turn:
        """As the chat format takes it."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return Turn(self.role, text, self.reasoning_content or "")


class _StreamOptions(BaseModel):
    """Of a streamed answer."""

    model_config = ConfigDict(strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False


class Sampled(BaseModel):
    """What chat and plain completions have in common, and what clients send along that changes no answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str = Field(max_length=300)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: JsonObject | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prediction: JsonObject | None = None
    parallel_tool_calls: bool | None = None

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> list[str]:
        endings = [stop] if isinstance(stop, str) else stop or []
        if len(endings) > 4 or not all(1 <= len(ending) <= 200 for ending in endings):
            raise ValueError("at most 4 sequences of 1 to 200 characters")
        return endings

    @property
    def endings(self) -> tuple[str, ...]:
        """Texts before which the answer ends."""
        return tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "echo": (False,),
    "best_of": (1,),
    "suffix": ("",),
    # not OpenAI's own, but llama.cpp's, vLLM's and DeepSeek's
    "top_k": (0, -1),
    "min_p": (0,),
    "typical_p": (1,),
    "repetition_penalty": (1,),
    "repeat_penalty": (1,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "use_beam_search": (False,),
    "skip_special_tokens": (True,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "include_reasoning": (True,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "chat_template_kwargs": ({},),
}
"""Keys that would change the answer and are not supported, with the values that ask for nothing (as null does)."""


class ChatBody(Sampled):
    """``POST /v1/chat/completions``."""

    messages: list[_Message] = Field(min_length=1, max_length=1000)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def limit(self) -> int | None:
        """Maximum completion tokens, reasoning included."""
        return self.max_completion_tokens or self.max_tokens


class CompletionBody(Sampled):
    """``POST /v1/completions``: text, or token ids, continued as it is."""

    prompt: str | list[int] | list[str]

    @property
    def limit(self) -> int | None:
        """Maximum completion tokens."""
        return self.max_tokens


def read_json(body: bytes) -> Any:
    """The value of a JSON text; ApiError 400 for none, and for what readers of JSON take in different ways."""
    try:
        return json.loads(body, object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is no JSON: {str(error)[:200]}", code="invalid_json") from None


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:100]!r} stands there twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def parse(kind: type[Any], values: Any) -> Any:
    """`values` as `kind`; ApiError 400 that names the key otherwise."""
    if not isinstance(values, dict):
        raise ApiError(400, f"the body is a JSON object, not a {type(values).__name__}")
    given = {key: value for key, value in values.items() if value is not None}
    for key, neutral in NEUTRAL.items():
        if key in given and not any(_same(given[key], nothing) for nothing in neutral):
            raise _unsupported(key)
        given.pop(key, None)
    if (broken := _broken_text(given)) is not None:
        told = f"{broken}: holds half a character (a lone surrogate)"
        raise ApiError(400, told, param=broken, code="invalid_value")
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise _told(error) from None


def _same(value: Any, other: Any) -> bool:
    """Whether two JSON values are equal; to Python, true is 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _unsupported(key: str) -> ApiError:
    return ApiError(400, f"{key}: not supported here; leave it out", param=key, code="unsupported_parameter")


def _broken_text(values: JsonObject) -> str | None:
    """The first key whose value has a text in it that no UTF-8 can hold."""
    for key, value in values.items():
        waiting = [key, value]
        while waiting:
            each = waiting.pop()
            if isinstance(each, dict):
                waiting += [*each.keys(), *each.values()]
            elif isinstance(each, list):
                waiting += each
            elif isinstance(each, str) and not each.isascii() and _SURROGATE.search(each):
                return key[:100].encode(errors="replace").decode()
    return None


def _told(error: ValidationError) -> ApiError:
    """The first of pydantic's complaints, as an answer."""
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(str(part) for part in first["loc"] if not isinstance(part, str) or part.isidentifier())
    key = key[:200] or str(first["loc"][-1])[:100]
    if first["type"] == "extra_forbidden":
        return _unsupported(key)
    message = first["msg"].removeprefix("Value error, ")
    if first["loc"][-1:] == ("role",) and isinstance(first["input"], str):
        message = f"unknown role {first['input'][:40]!r}; there are {', '.join(ROLES)}"
    return ApiError(400, f"{key}: {message}", param=key, code="invalid_value")


def answer_head(kind: str, label: str) -> AnswerHead:
    """The fields with which every answer and every chunk begins."""
    prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": label,
        "system_fingerprint": label,
    }
