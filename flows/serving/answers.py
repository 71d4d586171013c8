"""From a checked request to its answer: computed in a task of its own, told whole or as a stream of events.

The task holds the request's turn and its engine for as long as the engine works, and no longer: what the client reads,
and how fast, is no matter of the engine's. What comes of it waits in a queue, which a request's limits bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from flows.serving.limits import Admission, Limits
from flows.serving.metrics import Metrics
from flows.serving.model_manager import ModelManager, Served
from flows.serving.protocol import (
    AnswerBody,
    ApiError,
    ChatBody,
    Choice,
    CompletionBody,
    Message,
    Usage,
    answer_head,
    fault,
)
from model.serving.chat import ChatFormat, Piece, ReasoningSplitter
from model.serving.defaults import SamplingDefaults
from model.serving.engine import EngineError, EngineGoneError, Request
from model.serving.stops import StopCutter

__all__ = ["Answer", "engine_request", "not_served"]

DEATH_SECONDS = 2.0
"""Within which an engine that broke off is seen to have died, if it has."""
log = logging.getLogger("deepmill.serve")


def engine_request(
    body: ChatBody | CompletionBody, chat: ChatFormat, context: int, limits: Limits, defaults: SamplingDefaults
) -> Request:
    """What the engine is asked; ApiError 400 when the prompt does not fit."""
    if isinstance(body, ChatBody):
        prompt, param = chat.prompt([message.turn() for message in body.messages]), "messages"
    else:
        prompt, param = _prompt(body, chat), "prompt"
    room = context - len(prompt)
    if room < 1:
        raise ApiError(
            400,
            f"the prompt has {len(prompt)} tokens, the context holds {context} with the answer; shorten it",
            code="context_length_exceeded",
            param=param,
        )
    return Request(
        prompt=prompt,
        max_tokens=min(room, body.limit or limits.new_tokens, limits.new_tokens),
        temperature=defaults.temperature if body.temperature is None else body.temperature,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed % 2**31,
        stop=() if isinstance(body, ChatBody) else body.endings,  # a chat's hold for what follows the reasoning
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


def not_served(name: str, served: Served) -> ApiError:
    """What a request for another model is told."""
    label, model = served.version.label, served.version.name
    return ApiError(
        404,
        f"{name[:100]!r} is not served here; {label} is, under the name {model}",
        code="model_not_found",
        param="model",
    )


@dataclass
class Answer:
    """One request's answer as it comes."""

    number: str
    """Of the request: what a client is told of a fault, and what the log has."""
    body: ChatBody | CompletionBody
    metrics: Metrics
    arrived: float
    deadline: float
    served: Served | None = None
    """Set when the engine begins."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish: str | None = None
    reasoning: str = ""
    content: str = ""
    _spoken: bool = False
    """Whether the engine has."""
    _splitter: ReasoningSplitter = field(default_factory=ReasoningSplitter)
    _told: asyncio.Queue[Piece | ApiError | None] = field(default_factory=asyncio.Queue)
    """Pieces, the first of them empty, as soon as the engine speaks; then an error, or None at the end."""

    @property
    def is_chat(self) -> bool:
        """Whether reasoning is told from the answer."""
        return isinstance(self.body, ChatBody)

    @property
    def label(self) -> str:
        """The version that answers."""
        assert self.served is not None
        return self.served.version.label

    async def compute(self, admission: Admission, manager: ModelManager, limits: Limits) -> None:
        """Wait for a turn and let the engine work; how it ends is told in the queue. Cancelled, it frees its turn."""
        try:
            async with asyncio.timeout_at(self.deadline), admission.turn():
                while not await self._try(manager, limits):
                    pass
            self._told.put_nowait(None)
        except ApiError as error:
            self._told.put_nowait(error)
        except TimeoutError:
            self._told.put_nowait(self._too_late())
        except EngineError as error:
            self._told.put_nowait(ApiError(502, str(error), code="engine_error"))
        except Exception:
            log.exception("request %s", self.number)
            self._told.put_nowait(fault(self.number))

    async def _try(self, manager: ModelManager, limits: Limits) -> bool:
        """Let the engine work; False where it died before it said anything: the next one may."""
        async with manager.engine(self.deadline) as served:
            if not served.answers_to(self.body.model):  # another version took over meanwhile
                raise not_served(self.body.model, served)
            asked = await asyncio.to_thread(
                engine_request, self.body, served.chat, served.context, limits, served.defaults
            )
            self.prompt_tokens = len(asked.prompt)
            try:
                await self._run(served, asked)
            except EngineGoneError:
                if self._spoken or not await served.engine.has_ended(DEATH_SECONDS):
                    raise
                return False
        return True

    def _too_late(self) -> ApiError:
        if self.served is None:
            return ApiError(503, "no turn came within the time of a request", code="overloaded", retry=5)
        return ApiError(504, "the answer took longer than a request may; ask for fewer tokens", code="timeout")

    async def _run(self, served: Served, asked: Request) -> None:
        self.served = served
        if self.is_chat and served.chat.begun:
            self._splitter.feed(served.chat.begun)
        cutter = StopCutter(self.body.endings if self.is_chat else ())
        events = 0
        try:
            async with contextlib.aclosing(served.engine.complete(asked)) as deltas:
                async for delta in deltas:
                    if delta.text and not self._spoken:
                        self._spoken = True
                        self.metrics.first_token.observe(asyncio.get_running_loop().time() - self.arrived)
                        self._told.put_nowait(Piece())
                    events += bool(delta.text)
                    self.completion_tokens = delta.completion_tokens or max(self.completion_tokens, events)
                    self.finish = delta.finish or self.finish
                    self._tell(self._split(delta.text), cutter)
                    if cutter.found:
                        self.finish = "stop"
                        return
            if self.is_chat:
                self._tell(self._splitter.end(), cutter)
            self._tell(Piece(content=cutter.end()))
            self.finish = "stop" if cutter.found else self.finish
        finally:
            self.metrics.tokens.labels("prompt").inc(self.prompt_tokens)
            self.metrics.tokens.labels("completion").inc(self.completion_tokens)

    def _split(self, text: str) -> Piece:
        return self._splitter.feed(text) if self.is_chat else Piece(content=text)

    def _tell(self, piece: Piece, cutter: StopCutter | None = None) -> None:
        """Hand a piece on; stop strings end the visible answer alone, reasoning is none of the client's text."""
        if cutter is not None:
            piece.content = cutter.feed(piece.content)
        if piece:
            self.reasoning += piece.reasoning
            self.content += piece.content
            self._told.put_nowait(piece)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Parts of the answer as they come, an empty one first.

        Raises:
            ApiError: no turn came (429, 503), the prompt does not fit (400), the engine fails (502), or the time is up
                (504).
        """
        while (told := await self._told.get()) is not None:
            if isinstance(told, ApiError):
                raise told
            yield told

    def usage(self) -> Usage:
        """Tokens, as OpenAI counts them."""
        found: Usage = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
        if self.is_chat and self.served is not None:
            thought = len(self.served.chat.encode(self.reasoning))
            found["completion_tokens_details"] = {"reasoning_tokens": min(thought, self.completion_tokens)}
        return found

    async def whole(self) -> AnswerBody:
        """The answer in one piece; see `pieces` for what it raises."""
        async for _ in self.pieces():
            pass
        if self.is_chat:
            kind = "chat.completion"
            message: Message = {
                "role": "assistant",
                "content": self.content,
                "reasoning_content": self.reasoning or None,
            }
            choice: Choice = {"index": 0, "message": message, "finish_reason": self.finish, "logprobs": None}
        else:
            kind = "text_completion"
            choice = {"index": 0, "text": self.content, "finish_reason": self.finish, "logprobs": None}
        return {**answer_head(kind, self.label), "choices": [choice], "usage": self.usage()}

    async def events(self, pieces: AsyncIterator[Piece]) -> AsyncIterator[str]:
        """Server-sent events, once the first of the `pieces` has come; an error is the last of them."""
        head = answer_head("chat.completion.chunk" if self.is_chat else "text_completion", self.label)

        def event(choices: list[Choice], usage: Usage | None = None) -> str:
            body: AnswerBody = {**head, "choices": choices}
            if usage is not None:
                body["usage"] = usage
            return f"data: {json.dumps(body)}\n\n"

        def chunk(piece: Piece, finish: str | None = None) -> str:
            choice: Choice = {"index": 0, "finish_reason": finish, "logprobs": None}
            if self.is_chat:
                parts = {"reasoning_content": piece.reasoning, "content": piece.content}
                choice["delta"] = {name: text for name, text in parts.items() if text}
            else:
                choice["text"] = piece.content
            return event([choice])

        if self.is_chat:
            yield event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        try:
            async for piece in pieces:
                if piece:
                    yield chunk(piece)
        except ApiError as error:  # the head is sent: tell it in the stream
            yield f"data: {json.dumps(error.body())}\n\n"
            return
        yield chunk(Piece(), self.finish or "stop")
        if self.body.wants_usage:
            yield event([], usage=self.usage())
        yield "data: [DONE]\n\n"
