"""Batches from token shards, and the size of tokens in bytes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from model.training.loop import TrainingBatch
from pipeline.tokens.reader import ShardReader

__all__ = ["ShardBatches", "token_bytes"]


class ShardBatches:
    """A `BatchSource` of packed documents."""

    def __init__(self, reader: ShardReader) -> None:
        self.reader = reader
        self.epoch_steps = len(reader) if reader.mixture is None else None
        """Steps that read every row once; with a mixture each source has a pace of its own."""

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """The rows ``rank::world`` of the global batch of `step`."""
        batch = self.reader.batch(step, rank, world)
        return TrainingBatch(batch.tokens, batch.documents)


def token_bytes(tokenizer: Path) -> Tensor:
    """How many bytes of text each token stands for [V]; special tokens stand for none.

    In a byte-level vocabulary every character of a token is one byte.
    """
    description = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = description["model"]["vocab"]
    special = {token["content"]: token["id"] for token in description["added_tokens"] if token["special"]}
    size = 1 + max([*vocabulary.values(), *special.values()])
    bytes_V = torch.zeros(size, dtype=torch.int64)
    for token, number in vocabulary.items():
        bytes_V[number] = len(token)
    for number in special.values():
        bytes_V[number] = 0
    return bytes_V
