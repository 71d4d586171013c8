"""What an engine is told: which one computes, and with what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NotRequired, TypedDict

__all__ = ["CompletionEvent", "CompletionRequest", "EngineKind", "EngineSpec"]


class EngineKind(StrEnum):
    """What computes."""

    AUTO = "auto"
    """llama.cpp where it can compute the model, else our own."""
    LLAMA = "llama"
    OWN = "own"
    VLLM = "vllm"
    """vLLM, installed in an environment of its own (`model.serving.vllm`); it reads a checkpoint's folder."""


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


class CompletionChoice(TypedDict):
    """A piece of a completion."""

    index: int
    text: str
    finish_reason: str | None


class CompletionUsage(TypedDict):
    """Tokens, at the end."""

    prompt_tokens: int
    completion_tokens: int


class CompletionEvent(TypedDict):
    """One event of the stream that our own engine answers with."""

    choices: list[CompletionChoice]
    usage: NotRequired[CompletionUsage]
