"""What an engine is told: which one computes, and with what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["EngineKind", "EngineSpec"]


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
