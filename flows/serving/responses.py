"""OpenAI's Responses API (``POST /v1/responses``) over the same answers: the request as a chat, the answer as items.

Nothing is kept between requests: `previous_response_id`, `conversation` and `background` are refused, and `store` keeps
nothing.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.serving.answers import Answer, Part
from flows.serving.errors import ApiError
from flows.serving.metrics import Metrics
from flows.serving.protocol import MOST_TOP, ChatBody, parse
from flows.serving.reply import Reply
from flows.serving.shapes import Call, listed
from infra.json_objects import JsonObject

__all__ = ["ResponsesBody", "ResponsesReply"]


class _Text(BaseModel):
    """How the answer's text is to be."""

    model_config = ConfigDict(extra="forbid")

    format: JsonObject | None = None
    verbosity: str | None = None


class _Reasoning(BaseModel):
    """Of reasoning; only an effort of ``none`` is something to our models."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponsesBody(BaseModel):
    """``POST /v1/responses``."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    model: str = Field(max_length=300)
    input: str | list[JsonObject] = Field(min_length=1)
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int = Field(0, ge=0, le=MOST_TOP)
    stream: bool = False
    stream_options: JsonObject | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    tools: list[JsonObject] = Field(default_factory=list)
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: bool = True
    include: list[str] = Field(default_factory=list)
    truncation: Literal["disabled"] = "disabled"
    background: Literal[False] = False
    store: bool | None = None
    metadata: JsonObject | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    @property
    def wants_logprobs(self) -> bool:
        """Whether the answer tells how likely its tokens were."""
        return "message.output_text.logprobs" in self.include

    def chat(self) -> ChatBody:
        """The same as a chat; ApiError 400 that names the key of this request where it cannot be one."""
        messages: list[JsonObject] = []
        if self.instructions is not None:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            messages.append({"role": "user", "content": self.input})
        else:
            for item in self.input:
                _add(messages, item)
        wanted: JsonObject = {
            "model": self.model,
            "messages": messages,
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stream": self.stream,
            "logprobs": self.wants_logprobs,
            "top_logprobs": self.top_logprobs if self.wants_logprobs else 0,
            "tools": [_tool(tool) for tool in self.tools],
            "tool_choice": _choice(self.tool_choice),
            "parallel_tool_calls": self.parallel_tool_calls,
            "response_format": _format(self.text.format) if self.text and self.text.format else None,
            "reasoning_effort": self.reasoning.effort if self.reasoning else None,
        }
        try:
            chat: ChatBody = parse(ChatBody, wanted)
        except ApiError as error:
            raise _renamed(error) from None
        return chat


NAMES = {"messages": "input", "max_completion_tokens": "max_output_tokens", "response_format": "text.format"}
"""Keys of chats, and what they are called here."""


def _renamed(error: ApiError) -> ApiError:
    first = (error.param or "").partition(".")[0]
    if first in NAMES:
        error.param = (error.param or "").replace(first, NAMES[first], 1)
        error.message = error.message.replace(first, NAMES[first], 1)
    return error


def _add(messages: list[JsonObject], item: JsonObject) -> None:
    """One item of the input as a message, or as a part of the one before."""
    kind = item.get("type", "message")
    if kind == "message":
        content = item.get("content")
        if isinstance(content, list):
            content = [_part(each) for each in content]
        messages.append({"role": item.get("role"), "content": content})
    elif kind == "function_call":
        call = {"function": {"name": item.get("name"), "arguments": item.get("arguments", "")}}
        _last_answer(messages).setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        output = item.get("output")
        text = output if isinstance(output, str) else [_part(each) for each in output or [] if isinstance(each, dict)]
        messages.append({"role": "tool", "content": text, "tool_call_id": item.get("call_id")})
    elif kind == "reasoning":
        parts = [each.get("text", "") for each in item.get("content") or [] if isinstance(each, dict)]
        messages.append({"role": "assistant", "reasoning_content": "".join(parts)})
    else:
        raise ApiError(400, f"input: items of type {str(kind)[:60]!r} are not supported here", param="input")


def _last_answer(messages: list[JsonObject]) -> JsonObject:
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant"})
    return messages[-1]


def _part(part: Any) -> Any:
    is_text = isinstance(part, dict) and part.get("type") in ("input_text", "output_text", "text")
    return {"type": "text", "text": part.get("text")} if is_text else part


def _tool(tool: JsonObject) -> JsonObject:
    if tool.get("type") != "function":
        raise ApiError(
            400, f"tools: {str(tool.get('type'))[:60]!r} is not supported here; functions are", param="tools"
        )
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def _choice(choice: str | JsonObject | None) -> str | JsonObject | None:
    if isinstance(choice, dict) and "name" in choice:
        return {"type": choice.get("type", "function"), "function": {"name": choice["name"]}}
    return choice


def _format(wanted: JsonObject) -> JsonObject:
    if wanted.get("type") != "json_schema":
        return wanted
    return {"type": "json_schema", "json_schema": {key: value for key, value in wanted.items() if key != "type"}}


class ResponsesReply(Reply):
    """A reply as a response with its items."""

    def __init__(self, number: str, asked: ResponsesBody, metrics: Metrics, arrived: float, deadline: float) -> None:
        super().__init__(number, asked.chat(), metrics, arrived, deadline)
        self.asked = asked
        self._head = {"id": f"resp_{uuid.uuid4().hex}", "object": "response", "created_at": int(time.time())}

    async def pieces(self) -> AsyncIterator[tuple[Answer, Part | None]]:
        """See `Reply.pieces`."""
        try:
            async for told in super().pieces():
                yield told
        except ApiError as error:
            raise _renamed(error) from None

    async def whole(self) -> JsonObject:  # type: ignore[override]
        """The response in one piece."""
        async for _ in self.pieces():
            pass
        return self._response(_items(self.answers[0], self.asked))

    def _response(self, items: list[JsonObject], status: str = "", error: JsonObject | None = None) -> JsonObject:
        asked, answer = self.asked, self.answers[0]
        is_cut = answer.finish == "length"
        found: JsonObject = self._head | {
            "status": status or ("incomplete" if is_cut else "completed"),
            "error": error,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "model": self.label,
            "output": items,
            "parallel_tool_calls": asked.parallel_tool_calls,
            "previous_response_id": None,
            "reasoning": {"effort": asked.reasoning.effort if asked.reasoning else None, "summary": None},
            "store": False,
            "temperature": answer.asked.temperature if answer.asked else asked.temperature,
            "text": {"format": (asked.text and asked.text.format) or {"type": "text"}},
            "tool_choice": asked.tool_choice or "auto",
            "tools": asked.tools,
            "top_p": answer.asked.top_p if answer.asked else asked.top_p,
            "truncation": "disabled",
            "metadata": asked.metadata or {},
            "usage": None,
        }
        if not status:
            usage = self.usage()
            found["usage"] = {
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": usage["prompt_tokens_details"],
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": usage["completion_tokens_details"],
                "total_tokens": usage["total_tokens"],
            }
        return found

    async def events(self, pieces: AsyncIterator[tuple[Answer, Part | None]]) -> AsyncIterator[str]:
        """Server-sent events, each with its name and its place in the stream."""
        sequence = 0

        def event(kind: str, **values: Any) -> str:
            nonlocal sequence
            body = {"type": kind, "sequence_number": sequence, **values}
            sequence += 1
            return f"event: {kind}\ndata: {json.dumps(body)}\n\n"

        for kind in ("response.created", "response.in_progress"):
            yield event(kind, response=self._response([], "in_progress"))
        items = _Items(self.asked)
        try:
            async for _, part in pieces:
                for told in items.feed(part) if part else ():
                    yield event(told.pop("type"), **told)
        except ApiError as error:
            fault = {"code": error.code or "server_error", "message": error.body()["error"]["message"]}
            yield event("error", param=error.param, **fault)
            yield event("response.failed", response=self._response([], "failed", fault))
            return
        for told in items.close():
            yield event(told.pop("type"), **told)
        last = self._response(items.done)
        yield event(f"response.{last['status']}", response=last)


def _items(answer: Answer, asked: ResponsesBody) -> list[JsonObject]:
    """The output of a whole answer."""
    items = _Items(asked)
    for _ in items.feed(answer.whole):
        pass
    for _ in items.close():
        pass
    return items.done


class _Items:
    """The items of a response as they grow, and what is told of them."""

    def __init__(self, asked: ResponsesBody) -> None:
        self._asked = asked
        self.done: list[JsonObject] = []
        self._open: JsonObject | None = None
        self._text = ""
        self._logprobs: list[Any] = []

    def feed(self, part: Part) -> Iterator[JsonObject]:
        """Events of a piece of the answer."""
        if part.reasoning:
            yield from self._grow("reasoning", part.reasoning, [])
        said = part.content if part.content.strip() or self._is_open("message") else ""
        if said:
            yield from self._grow("message", said, listed(part.entries, self._asked.top_logprobs))
        for call in part.calls:
            yield from self._call(call)

    def close(self) -> Iterator[JsonObject]:
        """Events at the end of the open item."""
        if self._open is None:
            return
        item, place = self._open, {"item_id": self._open["id"], "output_index": len(self.done)}
        is_message = item["type"] == "message"
        part = self._part(self._text)
        if is_message and self._logprobs:
            part["logprobs"] = self._logprobs
        kind = "output_text" if is_message else "reasoning_text"
        told = {"text": self._text} | ({"logprobs": self._logprobs} if is_message else {})
        yield {"type": f"response.{kind}.done", **place, "content_index": 0, **told}
        yield {"type": "response.content_part.done", **place, "content_index": 0, "part": part}
        item |= {"content": [part], "status": "completed"}
        yield {"type": "response.output_item.done", "output_index": len(self.done), "item": item}
        self.done.append(item)
        self._open, self._text, self._logprobs = None, "", []

    def _is_open(self, kind: str) -> bool:
        return self._open is not None and self._open["type"] == kind

    def _part(self, text: str) -> JsonObject:
        assert self._open is not None
        if self._open["type"] == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _grow(self, kind: str, text: str, logprobs: list[Any]) -> Iterator[JsonObject]:
        if not self._is_open(kind):
            yield from self.close()
            self._open = _new(kind)
            yield {"type": "response.output_item.added", "output_index": len(self.done), "item": dict(self._open)}
            place = {"item_id": self._open["id"], "output_index": len(self.done), "content_index": 0}
            yield {"type": "response.content_part.added", **place, "part": self._part("")}
        assert self._open is not None
        self._text += text
        self._logprobs += logprobs
        name = "output_text" if kind == "message" else "reasoning_text"
        told: JsonObject = {"item_id": self._open["id"], "output_index": len(self.done), "content_index": 0}
        if kind == "message":
            told["logprobs"] = logprobs
        yield {"type": f"response.{name}.delta", **told, "delta": text}

    def _call(self, call: Call) -> Iterator[JsonObject]:
        yield from self.close()
        function = call["function"]
        item: JsonObject = {"id": f"fc_{uuid.uuid4().hex}", "type": "function_call", "status": "in_progress"}
        item |= {"call_id": call["id"], "name": function.get("name"), "arguments": ""}
        place: JsonObject = {"item_id": item["id"], "output_index": len(self.done)}
        yield {"type": "response.output_item.added", "output_index": len(self.done), "item": dict(item)}
        yield {"type": "response.function_call_arguments.delta", **place, "delta": function["arguments"]}
        done = {"name": function.get("name"), "arguments": function["arguments"]}
        yield {"type": "response.function_call_arguments.done", **place, **done}
        item |= {"arguments": function["arguments"], "status": "completed"}
        yield {"type": "response.output_item.done", "output_index": len(self.done), "item": item}
        self.done.append(item)


def _new(kind: str) -> JsonObject:
    item: JsonObject = {"type": kind, "content": [], "status": "in_progress"}
    if kind == "reasoning":
        return {"id": f"rs_{uuid.uuid4().hex}", **item, "summary": []}
    return {"id": f"msg_{uuid.uuid4().hex}", **item, "role": "assistant"}
