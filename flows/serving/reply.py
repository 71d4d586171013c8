"""The reply to a request: its answers, computed side by side, told whole or as a stream of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

from flows.serving.answers import Answer, Part
from flows.serving.errors import ApiError
from flows.serving.limits import Admission, Limits
from flows.serving.metrics import Metrics
from flows.serving.model_manager import ModelManager
from flows.serving.protocol import ChatBody, CompletionBody
from flows.serving.shapes import (
    AnswerBody,
    AnswerMessage,
    Call,
    CallDelta,
    ChatLogprobs,
    Choice,
    Delta,
    Logprobs,
    Usage,
    answer_head,
    chat_logprobs,
    text_logprobs,
)

__all__ = ["Reply"]


class Reply:
    """To one request: `n` answers to each of its prompts."""

    def __init__(
        self, number: str, body: ChatBody | CompletionBody, metrics: Metrics, arrived: float, deadline: float
    ) -> None:
        self.body = body
        self._told: asyncio.Queue[tuple[Answer, Part | ApiError | None]] = asyncio.Queue()
        self.answers: list[Answer] = []
        for place in range(body.answers):
            self.answers.append(Answer(place, number, body, metrics, arrived, deadline, self._teller(place)))
        self._lengths = [0] * body.answers
        """Characters of each completion that were told, for the places of its tokens."""

    def _teller(self, place: int) -> Callable[[Part | ApiError | None], None]:
        return lambda told: self._told.put_nowait((self.answers[place], told))

    @property
    def label(self) -> str:
        """The version that answers."""
        return next((answer.served.version.label for answer in self.answers if answer.served is not None), "")

    @property
    def is_chat(self) -> bool:
        """Whether reasoning is told from the answer."""
        return isinstance(self.body, ChatBody)

    async def compute(self, admission: Admission, manager: ModelManager, limits: Limits) -> None:
        """Let the engine work on every answer. One request takes no more turns, or places in line, than there are."""
        lanes = asyncio.Semaphore(limits.concurrency)

        async def one(answer: Answer) -> None:
            async with lanes:
                await answer.compute(admission, manager, limits)

        async with asyncio.TaskGroup() as group:
            for answer in self.answers:
                group.create_task(one(answer))

    async def pieces(self) -> AsyncIterator[tuple[Answer, Part | None]]:
        """Parts of the answers as they come, an empty one first, None at each answer's end.

        Raises:
            ApiError: no turn came (429, 503), the prompt does not fit (400), the engine fails (502), or the time is up
                (504).
        """
        left = len(self.answers)
        while left:
            answer, told = await self._told.get()
            if isinstance(told, ApiError):
                raise told
            left -= told is None
            yield answer, told

    def usage(self) -> Usage:
        """Tokens, as OpenAI counts them: a prompt once, however many answers it has."""
        prompts = self.answers[:: self.body.n]
        prompt, completion = (
            sum(answer.prompt_tokens for answer in prompts),
            sum(answer.completion_tokens for answer in self.answers),
        )
        found: Usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(answer.cached_tokens for answer in prompts)},
        }
        if self.is_chat:
            thought = sum(answer.reasoning_tokens for answer in self.answers)
            found["completion_tokens_details"] = {"reasoning_tokens": thought}
        return found

    async def whole(self) -> AnswerBody:
        """The answers in one piece; see `pieces` for what it raises."""
        async for _ in self.pieces():
            pass
        kind = "chat.completion" if self.is_chat else "text_completion"
        choices = [self._message(answer) if self.is_chat else self._text(answer) for answer in self.answers]
        return {**answer_head(kind, self.label), "choices": choices, "usage": self.usage()}

    def _message(self, answer: Answer) -> Choice:
        told = answer.whole
        message: AnswerMessage = {
            "role": "assistant",
            "content": (told.content.strip() or None) if told.calls else told.content,
            "reasoning_content": told.reasoning or None,
            "reasoning": told.reasoning or None,
        }
        if told.calls:
            message["tool_calls"] = told.calls
        return {
            "index": answer.number,
            "message": message,
            "finish_reason": answer.finish,
            "logprobs": self._logprobs(answer, told),
        }

    def _text(self, answer: Answer) -> Choice:
        return {
            "index": answer.number,
            "text": answer.whole.content,
            "finish_reason": answer.finish,
            "logprobs": self._logprobs(answer, answer.whole),
        }

    def _logprobs(self, answer: Answer, part: Part) -> ChatLogprobs | Logprobs | None:
        top = self.body.top
        if top is None:
            return None
        if self.is_chat:
            return chat_logprobs(part.entries, part.reasoning_entries, top)
        found = text_logprobs(part.entries, top, self._lengths[answer.number])
        self._lengths[answer.number] += sum(map(len, found["tokens"]))
        return found

    async def events(self, pieces: AsyncIterator[tuple[Answer, Part | None]]) -> AsyncIterator[str]:
        """Server-sent events, once the first of the `pieces` has come; an error is the last of them."""
        head = answer_head("chat.completion.chunk" if self.is_chat else "text_completion", self.label)

        def event(choices: list[Choice], usage: Usage | None = None) -> str:
            body: AnswerBody = {**head, "choices": choices}
            if usage is not None:
                body["usage"] = usage
            return f"data: {json.dumps(body)}\n\n"

        for answer in self.answers if self.is_chat else ():
            role: Delta = {"role": "assistant", "content": ""}
            yield event([{"index": answer.number, "delta": role, "finish_reason": None}])
        called = [0] * len(self.answers)
        try:
            async for answer, part in pieces:
                if part is None:
                    yield event([self._chunk(answer, Part(), 0, answer.finish or "stop")])
                elif part:
                    yield event([self._chunk(answer, part, called[answer.number])])
                    called[answer.number] += len(part.calls)
        except ApiError as error:  # the head is sent: tell it in the stream
            yield f"data: {json.dumps(error.body())}\n\n"
            return
        if self.body.wants_usage:
            yield event([], usage=self.usage())
        yield "data: [DONE]\n\n"

    def _chunk(self, answer: Answer, part: Part, called: int, finish: str | None = None) -> Choice:
        choice: Choice = {"index": answer.number, "finish_reason": finish, "logprobs": None}
        if part.entries or part.reasoning_entries:
            choice["logprobs"] = self._logprobs(answer, part)
        if not self.is_chat:
            return {**choice, "text": part.content}
        delta: Delta = {}
        if part.reasoning:
            delta["reasoning_content"] = delta["reasoning"] = part.reasoning
        if part.content:
            delta["content"] = part.content
        if part.calls:
            delta["tool_calls"] = [_call_delta(called + place, call) for place, call in enumerate(part.calls)]
        return {**choice, "delta": delta}


def _call_delta(place: int, call: Call) -> CallDelta:
    return {"index": place, **call}
