"""From a checked request to one answer: computed while it holds a turn and its engine, and told piece by piece.

The work holds the request's turn and its engine for as long as the engine works, and no longer: what the client reads,
and how fast, is no matter of the engine's. What comes of it waits in a queue, which a request's limits bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from flows.serving.errors import ApiError, fault
from flows.serving.limits import Admission, Limits
from flows.serving.metrics import Metrics
from flows.serving.model_manager import ModelManager, Served
from flows.serving.protocol import ChatBody, CompletionBody
from flows.serving.shapes import Call
from flows.serving.tools import CallSplitter
from infra.errors import UserError
from model.generation.reasoning import ReasoningSplitter
from model.serving.engine import Delta, EngineError, EngineGoneError, Request
from model.serving.grammar import write_grammar
from model.serving.spec import EngineKind, TokenEntry
from model.serving.stops import StopCutter
from pipeline.tokens.chat import ChatFormat

__all__ = ["Answer", "Part", "chat_prompt", "not_served", "text_tokens"]

DEATH_SECONDS = 2.0
"""Within which an engine that broke off is seen to have died, if it has."""
log = logging.getLogger("deepmill.serve")


@dataclass
class Part:
    """A piece of an answer."""

    reasoning: str = ""
    content: str = ""
    calls: list[Call] = field(default_factory=list)
    entries: list[TokenEntry] = field(default_factory=list)
    """Tokens of the answer, where they are asked for."""
    reasoning_entries: list[TokenEntry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reasoning or self.content or self.calls or self.entries or self.reasoning_entries)

    def add(self, other: Part) -> None:
        """Put another piece behind."""
        self.reasoning += other.reasoning
        self.content += other.content
        self.calls += other.calls
        self.entries += other.entries
        self.reasoning_entries += other.reasoning_entries


def engine_request(body: ChatBody | CompletionBody, served: Served, limits: Limits, number: int = 0) -> Request:
    """What the engine is asked for the answer of that number; ApiError 400 when the prompt does not fit."""
    if isinstance(body, ChatBody):
        prompt, param = chat_prompt(body, served.chat), "messages"
    else:
        prompt, param = (
            text_tokens(body.prompts[number // body.n], served.chat, "prompt") or [served.chat.bos],
            "prompt",
        )
    room = served.context - len(prompt)
    if room < 1:
        raise ApiError(
            400,
            f"the prompt has {len(prompt)} tokens, the context holds {served.context} with the answer; shorten it",
            code="context_length_exceeded",
            param=param,
        )
    wanted = limits.new_tokens if body.limit is None else body.limit
    seed = secrets.randbelow(2**31) if body.seed is None else body.seed
    kind = EngineKind(served.engine.spec.kind)
    return Request(
        prompt=prompt,
        max_tokens=min(room, wanted, limits.new_tokens),
        temperature=served.defaults.temperature if body.temperature is None else body.temperature,
        top_p=served.defaults.top_p if body.top_p is None else body.top_p,
        seed=(seed + number) % 2**31,
        stop=() if isinstance(body, ChatBody) else body.endings,  # a chat's hold for what follows the reasoning
        top_k=max(0, body.top_k),
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        logit_bias=_bias(body, served.chat),
        logprobs=body.top,
        grammar=_grammar(body, served.chat, kind, prompt),
        prompt_logprobs=_tells_of_prompt(body, kind),
    )


def chat_prompt(body: ChatBody, chat: ChatFormat) -> list[int]:
    """Tokens of a conversation up to where the model takes over, tools and all."""
    turns = [message.turn() for message in body.messages]
    if body.continue_final_message:
        return chat.continued(turns, body.offered)
    prompt = chat.prompt(turns, body.offered)
    return [*prompt, *chat.no_reasoning()] if body.skips_reasoning else prompt


def text_tokens(text: str | list[int], chat: ChatFormat, param: str) -> list[int]:
    """Tokens of a text, in which control tokens are read as such: this end of the API is for whoever knows them.

    Raises:
        ApiError: an id that is outside the vocabulary.
    """
    if isinstance(text, str):
        return list(chat.tokenizer.encode(text, add_special_tokens=False).ids)
    size = chat.tokenizer.get_vocab_size()
    if odd := [token for token in text if not 0 <= token < size]:
        raise ApiError(
            400,
            f"{param}: token {odd[0]} is outside the vocabulary of {size}; ids are those of this model's tokenizer, or "
            "send text",
            param=param,
        )
    return text


def _bias(body: ChatBody | CompletionBody, chat: ChatFormat) -> dict[int, float]:
    bias = {int(token): value for token, value in body.logit_bias.items()}
    size = chat.tokenizer.get_vocab_size()
    if odd := [token for token in bias if token >= size]:
        raise ApiError(400, f"logit_bias: token {odd[0]} is outside the vocabulary of {size}", param="logit_bias")
    return bias


def _grammar(body: ChatBody | CompletionBody, chat: ChatFormat, kind: EngineKind, prompt: list[int]) -> str:
    constraint = body.constraint
    if constraint is None:
        return ""
    param = "response_format" if constraint.schema is not None else "tools"
    # A completion is all answer: as if its reasoning had ended.
    before = chat.tokenizer.decode(prompt[-4:], skip_special_tokens=False) if isinstance(body, ChatBody) else "</think>"
    try:
        return write_grammar(constraint, kind, chat.tokenizer.get_vocab(), before.rstrip(), chat.call_style)
    except UserError as error:
        raise ApiError(400, f"{param}: {error}", param=param, code="invalid_value") from None


def _tells_of_prompt(body: ChatBody | CompletionBody, kind: EngineKind) -> bool:
    if isinstance(body, ChatBody) or not body.echo or body.top is None:
        return False
    if not kind.tells_of_prompts:
        raise ApiError(
            400,
            f"echo: {kind} does not say how likely a prompt is; leave logprobs out, or serve with --engine own",
            param="echo",
        )
    return True


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
    """One answer of a request as it comes."""

    number: int
    """Among the request's answers."""
    request: str
    """What a client is told of a fault, and what the log has."""
    body: ChatBody | CompletionBody
    metrics: Metrics
    arrived: float
    deadline: float
    tell: Callable[[Part | ApiError | None], None]
    """Takes the pieces, the first of them empty as soon as the engine speaks; then an error, or None at the end."""
    served: Served | None = None
    """Set when the engine begins."""
    asked: Request | None = None
    completion_tokens: int = 0
    cached_tokens: int = 0
    finish: str | None = None
    whole: Part = field(default_factory=Part)
    """All that was told."""
    _spoken: bool = False
    """Whether the engine has."""
    _undecided: list[TokenEntry] = field(default_factory=list)
    """Tokens of which it is not known yet whether they are reasoning."""
    _held: list[TokenEntry] = field(default_factory=list)
    """Tokens of text that is held back."""

    def __post_init__(self) -> None:
        chat = self.body if isinstance(self.body, ChatBody) else None
        self._splitter = ReasoningSplitter(waits=False, goes_on=chat.continue_final_message) if chat else None
        self._cutter = StopCutter(self.body.endings if chat else ())
        names = frozenset(tool.name for tool in chat.offered) if chat else frozenset()
        self._calls = CallSplitter(names, chat.parallel_tool_calls if chat else True)

    @property
    def prompt_tokens(self) -> int:
        """Of the prompt."""
        return len(self.asked.prompt) if self.asked else 0

    @property
    def reasoning_tokens(self) -> int:
        """Of what the model wrote, the reasoning's."""
        if not self.whole.reasoning or self.served is None:
            return 0
        return min(len(self.served.chat.encode(self.whole.reasoning)), self.completion_tokens)

    async def compute(self, admission: Admission, manager: ModelManager, limits: Limits) -> None:
        """Wait for a turn and let the engine work; how it ends is told. Cancelled, it frees its turn."""
        try:
            async with asyncio.timeout_at(self.deadline), admission.turn():
                while not await self._try(manager, limits):
                    pass
            self.tell(None)
        except ApiError as error:
            self.tell(error)
        except TimeoutError:
            self.tell(self._too_late())
        except UserError as error:  # a chat template takes no such conversation
            self.tell(ApiError(400, str(error), param="messages", code="invalid_value"))
        except EngineError as error:
            self.tell(ApiError(502, str(error), code="engine_error"))
        except Exception:
            log.exception("request %s", self.request)
            self.tell(fault(self.request))

    async def _try(self, manager: ModelManager, limits: Limits) -> bool:
        """Let the engine work; False where it died before it said anything: the next one may."""
        async with manager.engine(self.deadline) as served:
            if not served.answers_to(self.body.model):  # another version took over meanwhile
                raise not_served(self.body.model, served)
            self.asked = await asyncio.to_thread(engine_request, self.body, served, limits, self.number)
            self.served = served
            try:
                await self._run(served, self.asked)
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
        if self._splitter is not None and isinstance(self.body, ChatBody) and not self.body.skips_reasoning:
            self._splitter.feed(served.chat.begun)
        self._calls.style = served.chat.call_style
        events = 0
        try:
            if asked.max_tokens or asked.prompt_logprobs:
                async with contextlib.aclosing(served.engine.complete(asked)) as deltas:
                    async for delta in deltas:
                        events += bool(delta.text)
                        self._count(delta, events)
                        self._pass_on(delta)
                        if self._cutter.found or self._calls.is_over:
                            break
            self._end(asked)
        finally:
            self.metrics.tokens.labels("prompt").inc(self.prompt_tokens)
            self.metrics.tokens.labels("completion").inc(self.completion_tokens)

    def _begin(self) -> None:
        """An empty piece, and the prompt again where that is asked for: from now on the answer is this engine's."""
        self._spoken = True
        self.tell(Part())
        if isinstance(self.body, ChatBody) or not self.body.echo:
            return
        assert self.served is not None
        prompt = self.body.prompts[self.number // self.body.n]
        decode = self.served.chat.tokenizer.decode
        self._told(Part(content=prompt if isinstance(prompt, str) else decode(prompt, skip_special_tokens=False)))

    def _count(self, delta: Delta, events: int) -> None:
        if delta.text and not self.completion_tokens:
            self.metrics.first_token.observe(asyncio.get_running_loop().time() - self.arrived)
        if delta.text and not self._spoken:
            self._begin()
        self.completion_tokens = delta.completion_tokens or max(self.completion_tokens, events)
        self.cached_tokens = delta.cached_tokens or self.cached_tokens
        self.finish = delta.finish or self.finish

    def _pass_on(self, delta: Delta) -> None:
        if delta.prompt_entries:
            self._told(Part(entries=list(delta.prompt_entries)))
        if self._splitter is None:
            self._told(Part(content=delta.text, entries=list(delta.entries)))
            return
        had_begun, was_answering = self._splitter.has_begun, self._splitter.is_answering
        piece = self._splitter.feed(delta.text)
        entries, self._undecided = [*self._undecided, *delta.entries], []
        thought: list[TokenEntry] = []
        if not self._splitter.has_begun:
            self._undecided = entries
        elif was_answering or (self._splitter.is_answering and not had_begun):
            self._held += entries
        else:  # the tag that ends the reasoning is part of it
            thought = entries
        self._say(piece.reasoning, piece.content, thought)

    def _say(self, reasoning: str, content: str, thought: list[TokenEntry]) -> None:
        """Hand a piece on; stop strings end the visible answer alone, reasoning is none of the client's text."""
        text = self._cutter.feed(content)
        said, calls = self._calls.feed(text)
        part = Part(reasoning, said, calls, reasoning_entries=thought)
        if said or calls:
            part.entries, self._held = self._held, []
        self._told(part)

    def _end(self, asked: Request) -> None:
        """What was held back, and why the answer ended."""
        if not self._spoken:
            self._begin()
        if not asked.max_tokens:
            self.finish = "length"
        if self._splitter is not None and not self._cutter.found and not self._calls.is_over:
            piece = self._splitter.end()
            self._say(piece.reasoning, piece.content, [])
        if not self._calls.is_over:
            rest, calls = self._calls.feed(self._cutter.end())
            held, more = self._calls.end()
            self._told(Part(content=rest + held, calls=calls + more))
        if (left := self._held + self._undecided) and not self._cutter.found:
            self._told(Part(entries=left))
        if self._cutter.found:
            self.finish = "stop"
        if self._calls.calls:
            self.finish = "tool_calls"
        self._check(asked)

    def _check(self, asked: Request) -> None:
        """An engine may lose its grammar half-way, and goes on without: say so."""
        constraint = self.body.constraint
        if not asked.grammar or constraint is None or self.finish == "length" or self._cutter.found:
            return
        try:
            held = bool(self._calls.calls) if constraint.must_call else True
            if constraint.schema is not None:
                json.loads(self.whole.content)
        except ValueError:
            held = False
        if not held:
            raise EngineError("the engine lost the grammar of the answer; ask for something simpler")

    def _told(self, part: Part) -> None:
        if part:
            if not self._spoken:
                self._begin()
            self.whole.add(part)
            self.tell(part)
