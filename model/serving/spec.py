"""What an engine is told: which one computes, with what, and what a completion is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NotRequired, TypedDict

__all__ = [
    "CacheType",
    "CompletionEvent",
    "CompletionRequest",
    "EngineKind",
    "EngineSpec",
    "TokenEntry",
    "TopEntry",
]


class EngineKind(StrEnum):
    """What computes."""

    AUTO = "auto"
    """llama.cpp where it can compute the model, else our own."""
    LLAMA = "llama"
    OWN = "own"
    VLLM = "vllm"
    """vLLM, installed in an environment of its own (`model.serving.vllm`); it reads a checkpoint's folder."""

    @property
    def reads_tags(self) -> bool:
        """Whether its grammars take tags that are tokens as those; else as their text."""
        return self in (EngineKind.OWN, EngineKind.VLLM)

    @property
    def tells_of_prompts(self) -> bool:
        """Whether it says how likely the prompt's own tokens are."""
        return self is EngineKind.OWN

    @property
    def embeds(self) -> bool:
        """Whether it makes vectors of texts beside completions."""
        return self in (EngineKind.LLAMA, EngineKind.OWN)


class CacheType(StrEnum):
    """How keys and values of the tokens already seen are kept."""

    AUTO = "auto"
    """As the engine does by itself: 16 bits in llama.cpp, those of the weights in our own."""
    Q8_0 = "q8_0"
    """8 bits, with a 16-bit scale per 32 numbers: llama.cpp and our own engine."""


@dataclass(frozen=True)
class EngineSpec:
    """What a child is told."""

    kind: str
    path: str
    """A GGUF file for llama.cpp, else a model folder."""
    key: str
    context: int
    """Most tokens of one request, prompt and answer."""
    slots: int
    """Requests computed at once."""
    threads: int
    cache: str = CacheType.AUTO
    """A `CacheType`."""
    drafts: int = 0
    """Tokens that a layer of multi-token prediction guesses at a time; 0 for none."""
    drafter: str = ""
    """For llama.cpp: the GGUF file that has that layer, or a smaller model that guesses."""


class CompletionRequest(TypedDict):
    """The body of ``/v1/completions`` as engines get it."""

    model: str
    prompt: list[int]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: list[str]
    stream: bool
    stream_options: dict[str, bool]
    top_k: int
    min_p: float
    repeat_penalty: float
    """llama.cpp's name, and ours."""
    repetition_penalty: float
    """vLLM's."""
    repeat_last_n: NotRequired[int]
    """Over how many tokens llama.cpp's penalties look back; its default is 64."""
    presence_penalty: NotRequired[float]
    frequency_penalty: NotRequired[float]
    logit_bias: NotRequired[dict[str, float]]
    logprobs: NotRequired[int]
    grammar: NotRequired[str]
    structured_outputs: NotRequired[dict[str, str]]
    """The grammar as vLLM takes it."""
    prompt_logprobs: NotRequired[bool]
    """Our own engine's: whether the prompt's tokens are told as well."""


class TopEntry(TypedDict):
    """A token and how likely it was."""

    id: int
    token: str
    bytes: list[int]
    logprob: float | None
    """None for the first token of a prompt: nothing stands before it."""


class TokenEntry(TopEntry):
    """A token that was written, with the likeliest in its place."""

    top_logprobs: list[TopEntry]


class CompletionLogprobs(TypedDict):
    """Of the tokens of a piece."""

    content: list[TokenEntry]


class CompletionChoice(TypedDict):
    """A piece of a completion."""

    index: int
    text: str
    finish_reason: str | None
    logprobs: NotRequired[CompletionLogprobs]


class CachedTokens(TypedDict):
    """Tokens of the prompt that were not computed again."""

    cached_tokens: int


class PredictedTokens(TypedDict):
    """Guessed tokens, by OpenAI's names."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class CompletionUsage(TypedDict):
    """Tokens, at the end."""

    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: NotRequired[CachedTokens]
    completion_tokens_details: NotRequired[PredictedTokens]


class CompletionEvent(TypedDict):
    """One event of the stream that our own engine answers with."""

    choices: list[CompletionChoice]
    usage: NotRequired[CompletionUsage]
    prompt_logprobs: NotRequired[list[TokenEntry]]
