"""Batches from token shards, and the size of tokens in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from infra.json_objects import read_object
from model.sections import TrainingConfig
from model.training.batches import ReadAhead, TrainingBatch
from pipeline.tokens.passes import repeated
from pipeline.tokens.sentencepiece import byte_length, is_sentencepiece

if TYPE_CHECKING:
    from pipeline.tokens.reader import ShardReader

__all__ = ["ShardBatches", "read_shards", "token_bytes"]


class ShardBatches:
    """A `BatchSource` of packed documents."""

    def __init__(self, reader: ShardReader, repeated: str = "") -> None:
        self.reader, self.repeated = reader, repeated
        self.epoch_steps = len(reader) if reader.mixture is None else None
        """Steps that read every row once; with a mixture each source has a pace of its own."""

    @property
    def rows(self) -> int:
        """Rows of the split."""
        return self.reader.rows

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """The rows ``rank::world`` of the global batch of `step`."""
        batch = self.reader.batch(step, rank, world)
        return TrainingBatch(batch.tokens, batch.documents)

    def ahead(self, steps: int) -> ReadAhead:
        """The same batches, read before they are wanted in a run of `steps`."""
        return ReadAhead(self, steps)


def read_shards(
    shards: Path, split: str, config: TrainingConfig, mixture: Mapping[str, float] | None = None
) -> ShardBatches:
    """The batches of a stage from a split of its shards.

    Raises:
        ValueError: the split has no rows, or the mixture does not fit it.
    """
    from pipeline.tokens.reader import ShardReader

    reader = ShardReader(shards, split, global_batch=config.batch_size, seed=config.seed, mixture=mixture)
    told = repeated(reader.source_rows, reader.mixture, config.steps * config.batch_size) if split == "train" else ""
    return ShardBatches(reader, told)


def token_bytes(tokenizer: Path) -> Tensor:
    """How many bytes of text each token stands for [V]; special tokens stand for none.

    In a byte-level vocabulary every character of a token is one byte; of SentencePiece's kind it is text.
    """
    description = read_object(tokenizer / "tokenizer.json")
    vocabulary: dict[str, int] = description["model"]["vocab"]
    special = {token["content"]: token["id"] for token in description["added_tokens"] if token["special"]}
    size = 1 + max([*vocabulary.values(), *special.values()])
    bytes_V = torch.zeros(size, dtype=torch.int64)
    length = byte_length if is_sentencepiece(description) else len
    for token, number in vocabulary.items():
        bytes_V[number] = length(token)
    for number in special.values():
        bytes_V[number] = 0
    return bytes_V
