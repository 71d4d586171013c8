"""From an admitted request to its answer: whole, or as a stream of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from flows.serving.limits import Limits
from flows.serving.metrics import Metrics
from flows.serving.model_manager import Served
from flows.serving.protocol import ApiError, ChatBody, CompletionBody, answer_head
from model.serving.chat import ChatFormat, Piece, ReasoningSplitter
from model.serving.engine import EngineError, Request

__all__ = ["Answer", "engine_request"]


def engine_request(body: ChatBody | CompletionBody, chat: ChatFormat, context: int, limits: Limits) -> Request:
    """What the engine is asked; ApiError 400 when the prompt does not fit."""
    prompt = (
        chat.prompt([message.turn() for message in body.messages])
        if isinstance(body, ChatBody)
        else (_prompt(body, chat))
    )
    room = context - len(prompt)
    if room < 1:
        raise ApiError(
            400,
            f"the prompt has {len(prompt)} tokens, the context holds {context} with the answer; shorten it",
            code="context_length_exceeded",
            param="messages" if isinstance(body, ChatBody) else "prompt",
        )
    return Request(
        prompt=prompt,
        max_tokens=min(room, body.limit or limits.new_tokens, limits.new_tokens),
        temperature=body.temperature or 0.0,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=(body.seed or 0) % 2**31,
        stop=tuple(body.stop or ()),
    )


def _prompt(body: CompletionBody, chat: ChatFormat) -> list[int]:
    """The prompt's tokens; in text, control tokens are read as such: this end of the API is for whoever knows them."""
    prompt = body.prompt
    if isinstance(prompt, list) and all(isinstance(token, int) for token in prompt):
        size = chat.tokenizer.get_vocab_size()
        if odd := [token for token in prompt if not 0 <= int(token) < size]:
            raise ApiError(400, f"prompt: token {odd[0]} is outside the vocabulary of {size}", param="prompt")
        return [int(token) for token in prompt] or [chat.bos]
    if isinstance(prompt, list):
        if len(prompt) != 1:
            raise ApiError(400, f"prompt: one at a time, not {len(prompt)}", param="prompt")
        prompt = str(prompt[0])
    assert isinstance(prompt, str)
    return list(chat.tokenizer.encode(prompt, add_special_tokens=False).ids) or [chat.bos]


@dataclass
class Answer:
    """One request's answer as it comes."""

    served: Served
    body: ChatBody | CompletionBody
    request: Request
    metrics: Metrics
    arrived: float
    deadline: float
    finish: str | None = None
    written: int = 0
    """Tokens."""
    reasoning: str = ""
    content: str = ""
    _splitter: ReasoningSplitter = field(default_factory=ReasoningSplitter)

    @property
    def is_chat(self) -> bool:
        """Whether thoughts are told from the answer."""
        return isinstance(self.body, ChatBody)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Parts of the answer, none of them empty.

        Raises:
            ApiError: the engine fails (502), or the time is up (504).
        """
        loop = asyncio.get_running_loop()
        deltas = self.served.engine.complete(self.request)
        try:
            async with asyncio.timeout_at(self.deadline):
                async for delta in deltas:
                    if delta.text and not self.reasoning and not self.content and not self.written:
                        self.metrics.first_token.observe(loop.time() - self.arrived)
                        self.written = 1
                    self.written = delta.completion_tokens or self.written
                    self.finish = delta.finish or self.finish
                    piece = self._splitter.feed(delta.text) if self.is_chat else Piece(content=delta.text)
                    if piece:
                        yield self._note(piece)
        except TimeoutError:
            raise ApiError(
                504, "the answer took longer than a request may; ask for fewer tokens", code="timeout"
            ) from None
        except EngineError as error:
            raise ApiError(502, str(error), code="engine_error") from None
        finally:
            await deltas.aclose()  # type: ignore[attr-defined]
            self.metrics.tokens.labels("prompt").inc(len(self.request.prompt))
            self.metrics.tokens.labels("completion").inc(self.written)
        if self.is_chat and (piece := self._splitter.end()):
            yield self._note(piece)

    def _note(self, piece: Piece) -> Piece:
        self.reasoning += piece.reasoning
        self.content += piece.content
        return piece

    def usage(self) -> dict[str, Any]:
        """Tokens, as OpenAI counts them."""
        found: dict[str, Any] = {
            "prompt_tokens": len(self.request.prompt),
            "completion_tokens": self.written,
            "total_tokens": len(self.request.prompt) + self.written,
        }
        if self.is_chat:
            thought = len(self.served.chat.encode(self.reasoning))
            found["completion_tokens_details"] = {"reasoning_tokens": min(thought, self.written)}
        return found

    async def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        async for _ in self.pieces():
            pass
        if self.is_chat:
            message = {"role": "assistant", "content": self.content, "reasoning_content": self.reasoning or None}
            choice: dict[str, Any] = {"index": 0, "message": message}
        else:
            choice = {"index": 0, "text": self.content}
        choice |= {"finish_reason": self.finish, "logprobs": None}
        kind = "chat.completion" if self.is_chat else "text_completion"
        return answer_head(kind, self.served.version.label) | {"choices": [choice], "usage": self.usage()}

    async def events(self, pieces: AsyncIterator[Piece], first: Piece | None) -> AsyncIterator[str]:
        """Server-sent events; `first` has been taken from `pieces` already."""
        head = answer_head("chat.completion.chunk" if self.is_chat else "text_completion", self.served.version.label)

        def event(choices: list[dict[str, Any]], **more: Any) -> str:
            return f"data: {json.dumps(head | {'choices': choices} | more, ensure_ascii=False)}\n\n"

        def chunk(piece: Piece, finish: str | None = None) -> str:
            choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
            if self.is_chat:
                parts = {"reasoning_content": piece.reasoning, "content": piece.content}
                choice["delta"] = {name: text for name, text in parts.items() if text}
            else:
                choice["text"] = piece.content
            return event([choice])

        if self.is_chat:
            yield event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        try:
            if first is not None:
                yield chunk(first)
            async for piece in pieces:
                yield chunk(piece)
        except ApiError as error:  # the head is sent: tell it in the stream
            yield f"data: {json.dumps(error.body())}\n\n"
            return
        yield chunk(Piece(), self.finish or "stop")
        if self.body.wants_usage:
            yield event([], usage=self.usage())
        yield "data: [DONE]\n\n"
