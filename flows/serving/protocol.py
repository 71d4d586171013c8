"""OpenAI's requests as clients send them, checked: what would change an answer and is not supported is refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from flows.serving.errors import ApiError
from flows.serving.wishes import Format, NamedTool, OfferedTool
from infra.json_objects import JsonObject
from infra.wanted import wanted
from model.serving.grammar import Constraint
from pipeline.tokens.messages import ROLES, Message
from pipeline.tokens.tools import Tool

__all__ = ["ChatBody", "CompletionBody", "EmbeddingsBody", "Sampled", "parse", "read_json"]

_SURROGATE = re.compile("[\ud800-\udfff]")
MOST_ANSWERS = 128
"""Of one request, over its prompts and `n`."""
MOST_TOP = 20
"""Of the likeliest tokens that are told of; OpenAI's bound."""


class _StreamOptions(BaseModel):
    """Of a streamed answer."""

    model_config = ConfigDict(strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False


class Sampled(BaseModel):
    """What chat and plain completions have in common, and what clients send along that changes no answer."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    model: str = Field(max_length=300)
    max_tokens: int | None = Field(None, ge=1)
    """Most tokens of an answer, reasoning included."""
    temperature: float | None = Field(None, ge=0, le=2)
    """0 takes the likeliest token; the model's own default where it is left out."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Only the likeliest tokens whose probabilities reach this sum."""
    top_k: int = Field(0, ge=-1, le=2**31 - 1)
    """Only so many of the likeliest tokens; 0 and -1 for all."""
    min_p: float = Field(0.0, ge=0, le=1)
    """Only tokens at least so likely, as a share of the likeliest one's probability."""
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=2)
    """Divides the logits of tokens that were there, above 0, and multiplies those below."""
    logit_bias: dict[str, float] = Field(default_factory=dict, max_length=1024)
    """Added to tokens' logits, -100 to 100, by the number of the token."""
    n: int = Field(1, ge=1, le=MOST_ANSWERS)
    """Answers to each prompt."""
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    """The same seed gives the same answer."""
    stop: str | list[str] | None = None
    """Up to 4 texts before which the answer ends."""
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
    verbosity: str | None = None

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> list[str]:
        endings = [stop] if isinstance(stop, str) else stop or []
        if len(endings) > 4 or not all(1 <= len(ending) <= 200 for ending in endings):
            raise ValueError("at most 4 sequences of 1 to 200 characters")
        return endings

    @field_validator("logit_bias")
    @classmethod
    def _tokens(cls, bias: dict[str, float]) -> dict[str, float]:
        if not all(token.isascii() and token.isdigit() and abs(value) <= 100 for token, value in bias.items()):
            raise ValueError("numbers of tokens, with values from -100 to 100")
        return bias

    @property
    def endings(self) -> tuple[str, ...]:
        """Texts before which the answer ends."""
        return tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


SAME = {"repeat_penalty": "repetition_penalty"}
"""Other names of keys: llama.cpp's."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    # of chats or of completions alone
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "top_logprobs": (0,),
    "echo": (False,),
    # of neither
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "best_of": (1,),
    "suffix": ("",),
    # not OpenAI's own, but llama.cpp's, vLLM's and DeepSeek's
    "typical_p": (1,),
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
}
"""Keys that would change the answer and are not supported, with the values that ask for nothing (as null does)."""


class _TemplateOptions(BaseModel):
    """What models' own templates take."""

    model_config = ConfigDict(strict=True, extra="forbid")

    enable_thinking: bool = True


class ChatBody(Sampled):
    """``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    """The conversation, oldest first."""
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    """Whether the answer tells how likely its tokens were."""
    top_logprobs: int = Field(0, ge=0, le=MOST_TOP)
    """So many of the likeliest tokens are told at each place."""
    response_format: Format | None = None
    tools: list[OfferedTool] = Field(default_factory=list, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool = True
    reasoning_effort: str | None = None
    """Only ``none`` is something to our models: they have no levels of effort."""
    chat_template_kwargs: _TemplateOptions | None = None
    continue_final_message: bool = False
    """Whether the answer goes on with the last message, an assistant's, as vLLM and transformers have it."""
    add_generation_prompt: bool | None = None
    """False goes with `continue_final_message`, and true without."""

    @model_validator(mode="after")
    def _fits(self) -> ChatBody:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: set logprobs as well")
        if self.add_generation_prompt is self.continue_final_message:
            raise ValueError("add_generation_prompt: the opposite of continue_final_message; leave it out")
        if self.continue_final_message:
            self._goes_on()
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) != len(names):
            raise ValueError("tools: two have the same name")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError(f"tool_choice: {self.tool_choice.function.name[:64]!r} is none of the tools")
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice: required, but there are no tools")
        if self.offered and self.tool_choice in (None, "auto") and self.schema_wanted is not None:
            raise ValueError("response_format: not together with tools that need not be called; set tool_choice")
        return self

    def _goes_on(self) -> None:
        last = self.messages[-1]
        if last.role != "assistant" or last.tool_calls or not last.content:
            raise ValueError("continue_final_message: the last message is no assistant's text")
        if self.constraint is not None:
            raise ValueError("continue_final_message: not together with a format, or with tools that have to be called")

    @property
    def limit(self) -> int | None:
        """Maximum completion tokens, reasoning included."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def answers(self) -> int:
        """How many there will be."""
        return self.n

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens are told of; None where no log probabilities are."""
        return self.top_logprobs if self.logprobs else None

    @property
    def schema_wanted(self) -> JsonObject | None:
        """What the answer's JSON must follow."""
        return self.response_format.schema_wanted if self.response_format else None

    @property
    def skips_reasoning(self) -> bool:
        """Whether the model is to answer at once."""
        if self.continue_final_message:
            return True
        off = self.chat_template_kwargs is not None and not self.chat_template_kwargs.enable_thinking
        return off or self.reasoning_effort == "none"

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The tools that the model may call."""
        if self.tool_choice == "none":
            return ()
        chosen = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None
        return tuple(
            Tool(each.name, each.parameters or {"type": "object"}, each.description or "", bool(each.strict))
            for each in (tool.function for tool in self.tools)
            if chosen in (None, each.name)
        )

    @property
    def constraint(self) -> Constraint | None:
        """What the answer is held to; None where it is free."""
        must_call = self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)
        if self.offered and (must_call or any(tool.strict for tool in self.offered)):
            return Constraint(None, self.offered, must_call, self.parallel_tool_calls)
        return Constraint(self.schema_wanted) if self.schema_wanted is not None else None


class CompletionBody(Sampled):
    """``POST /v1/completions``: text, or token ids, continued as it is; or several of either."""

    prompt: str | list[int] | list[str] | list[list[int]]
    """One text or several, or their tokens."""
    max_tokens: int | None = Field(None, ge=0)
    echo: bool = False
    """Whether the answer begins with the prompt."""
    logprobs: Literal[False] | Annotated[int, Field(ge=0, le=MOST_TOP)] | None = None
    response_format: Format | None = None
    """As vLLM has it."""

    @model_validator(mode="after")
    def _fits(self) -> CompletionBody:
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens: 0 is for echo alone")
        if not 1 <= self.answers <= MOST_ANSWERS:
            raise ValueError(f"prompt: 1 to {MOST_ANSWERS} answers to a request, over prompts and n")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or more, each to be continued `n` times."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if all(isinstance(each, int) for each in self.prompt):
            return [[int(each) for each in self.prompt if isinstance(each, int)]]
        return [each for each in self.prompt if not isinstance(each, int)]

    @property
    def limit(self) -> int | None:
        """Maximum completion tokens."""
        return self.max_tokens

    @property
    def answers(self) -> int:
        """How many there will be."""
        return self.n * len(self.prompts)

    @property
    def top(self) -> int | None:
        """How many of the likeliest tokens are told of; None where no log probabilities are."""
        return None if self.logprobs is False else self.logprobs

    @property
    def constraint(self) -> Constraint | None:
        """What the answer is held to; None where it is free."""
        wanted = self.response_format.schema_wanted if self.response_format else None
        return Constraint(wanted) if wanted is not None else None


class EmbeddingsBody(BaseModel):
    """``POST /v1/embeddings``."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    model: str = Field(max_length=300)
    input: str | list[int] | list[str] | list[list[int]] = Field(min_length=1)
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None

    @property
    def texts(self) -> list[str | list[int]]:
        """One or more texts, or their tokens."""
        if isinstance(self.input, str):
            return [self.input]
        if all(isinstance(each, int) for each in self.input):
            return [[int(each) for each in self.input if isinstance(each, int)]]
        return [each for each in self.input if not isinstance(each, int)]


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
    given = {SAME.get(str(key), str(key)): value for key, value in values.items() if value is not None}
    for key, neutral in NEUTRAL.items():
        if key in kind.model_fields:
            continue
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
    first = error.errors(include_url=False)[0]
    message = wanted(first) or first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # a rule over several keys names the one that it is about
        return ApiError(400, message, param=message.partition(":")[0], code="invalid_value")
    key = ".".join(str(part) for part in first["loc"] if not isinstance(part, str) or part.isidentifier())
    key = key[:200] or str(first["loc"][-1])[:100]
    if first["type"] == "extra_forbidden":
        return _unsupported(key)
    if first["loc"][-1:] == ("role",) and isinstance(first["input"], str):
        message = f"unknown role {first['input'][:40]!r}; there are {', '.join(ROLES)}"
    return ApiError(400, f"{key}: {message}", param=key, code="invalid_value")
