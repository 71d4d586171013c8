"""The chat format as the servers use it: conversations to tokens, and what comes back to reasoning and answer."""

from __future__ import annotations

from model.generation.reasoning import Piece, ReasoningSplitter
from model.generation.reasoning import split_reasoning as split
from pipeline.tokens.chat import ChatFormat, Turn

__all__ = ["ChatFormat", "Piece", "ReasoningSplitter", "Turn", "split"]
