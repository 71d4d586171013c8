"""What clients get: OpenAI's shapes of answers to chats and completions, and of the list of models."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import NotRequired  # pydantic wants these before Python 3.12

from typing_extensions import TypedDict

from model.serving.spec import TokenEntry, TopEntry

__all__ = [
    "AnswerBody",
    "AnswerHead",
    "AnswerMessage",
    "Call",
    "CallDelta",
    "ChatLogprobs",
    "Choice",
    "Health",
    "Logprobs",
    "ModelCard",
    "ModelList",
    "Usage",
    "answer_head",
    "chat_logprobs",
    "listed",
    "text_logprobs",
]


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


class PromptDetails(TypedDict):
    """What the prompt's tokens were."""

    cached_tokens: int


class Usage(TypedDict):
    """Tokens, as OpenAI counts them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: NotRequired[CompletionDetails]


class CallFunction(TypedDict):
    """What is called."""

    name: NotRequired[str]
    arguments: str
    """JSON as text."""


class Call(TypedDict):
    """A tool that the model asks for."""

    id: str
    type: str
    function: CallFunction


class CallDelta(TypedDict):
    """A piece of a call in a stream, told by its place among the answer's calls."""

    index: int
    id: NotRequired[str]
    type: NotRequired[str]
    function: CallFunction


class TopToken(TypedDict):
    """A token and how likely it was."""

    token: str
    logprob: float | None
    bytes: list[int]


class ToldToken(TopToken):
    """A token of the answer."""

    top_logprobs: list[TopToken]


class ChatLogprobs(TypedDict):
    """Of a chat's answer; the reasoning's apart, as DeepSeek tells them."""

    content: list[ToldToken]
    reasoning_content: NotRequired[list[ToldToken]]
    refusal: None


class Logprobs(TypedDict):
    """Of a completion."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float | None] | None]
    text_offset: list[int]


class AnswerMessage(TypedDict):
    """A whole answer of a chat."""

    role: str
    content: str | None
    reasoning_content: str | None
    reasoning: str | None
    """The same by vLLM's name."""
    tool_calls: NotRequired[list[Call]]


class Delta(TypedDict, total=False):
    """A piece of an answer of a chat."""

    role: str
    content: str
    reasoning_content: str
    reasoning: str
    tool_calls: list[CallDelta]


class Choice(TypedDict):
    """An answer, or a piece of one: `message` and `delta` of a chat, `text` of a completion."""

    index: int
    message: NotRequired[AnswerMessage]
    delta: NotRequired[Delta]
    text: NotRequired[str]
    finish_reason: str | None
    logprobs: NotRequired[ChatLogprobs | Logprobs | None]


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
    sources: bool
    """Whether `/v1/trace` tells where a text comes from."""


class ModelList(TypedDict):
    """The models that are served."""

    object: str
    data: list[ModelCard]


class Requests(TypedDict):
    """How many requests there are."""

    running: int
    slots: int
    """Most that run at once."""
    waiting: int
    line: int
    """Most that wait."""


class Health(TypedDict):
    """Whether requests can be served."""

    status: str
    """``ok``, ``busy`` (full), or ``starting``."""
    model: NotRequired[str]
    version: NotRequired[str]
    engine: NotRequired[str]
    trouble: str | None
    """What is amiss, in words."""
    requests: Requests


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


def _top(entry: TopEntry) -> TopToken:
    return {"token": entry["token"], "logprob": entry["logprob"], "bytes": entry["bytes"]}


def listed(entries: Sequence[TokenEntry], top: int) -> list[ToldToken]:
    """Tokens as chats and responses tell them, with so many of the likeliest each."""
    return [{**_top(entry), "top_logprobs": [_top(each) for each in entry["top_logprobs"][:top]]} for entry in entries]


def chat_logprobs(content: Sequence[TokenEntry], reasoning: Sequence[TokenEntry], top: int) -> ChatLogprobs:
    """Of a chat's answer, or of a piece of it."""
    found: ChatLogprobs = {"content": listed(content, top), "refusal": None}
    if reasoning:
        found["reasoning_content"] = listed(reasoning, top)
    return found


def text_logprobs(entries: Sequence[TokenEntry], top: int, offset: int) -> Logprobs:
    """Of a completion, or of a piece of it that begins `offset` characters after the text's beginning."""
    offsets = [offset]
    for entry in entries:
        offsets.append(offsets[-1] + len(entry["token"]))
    likeliest = [{each["token"]: each["logprob"] for each in entry["top_logprobs"][:top]} for entry in entries]
    return {
        "tokens": [entry["token"] for entry in entries],
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [found or None for found in likeliest],
        "text_offset": offsets[:-1],
    }
