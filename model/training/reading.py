"""How well a model reads the held-out text of every source: what a stage gains there, and what it forgets.

A model in training is measured through its engine, so that experts may be spread over ranks. The rows are the first of
each source in the order of the shards' reader.

Shapes: B rows of this rank, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import torch

from model.training.batches import TrainingBatch
from model.training.journal import Row
from model.training.sources import token_bytes
from model.training.text_loss import Measurable, TextLoss, by_domain, check_domain, text_losses
from pipeline.tokens.reader import ShardReader

__all__ = ["Reading"]

TOKENS_AT_ONCE = 2048
"""Tokens of a rank that go through the model together: one row of a small model leaves most of a GPU idle."""


class Reading:
    """Measures bits per byte of each source's held-out text; ranks share the rows out.

    Args:
        shards: the artifact.
        tokenizer: that of the model.
        rows: of each source at most.
        domain: sources that are measured together as well, and all others together.
        document_mask: whether a token sees its own document alone.
        recut: makes rows of the tokenizer's tokens, where the shards have other ones.

    Raises:
        ValueError: no held-out text, a domain that names no source.
    """

    def __init__(
        self,
        shards: Path,
        tokenizer: Path,
        rows: int,
        *,
        domain: Collection[str] = (),
        document_mask: bool = True,
        recut: Callable[[TrainingBatch], TrainingBatch] | None = None,
    ) -> None:
        counts = ShardReader(shards, "validation", global_batch=1).source_rows
        check_domain(domain, counts)
        self._rows = {source: min(counts[source], rows) for source in sorted(counts) if counts[source]}
        self._readers = {
            source: ShardReader(shards, "validation", global_batch=1, mixture={source: 1.0}, verify=False)
            for source in self._rows
        }
        self._bytes_V = token_bytes(tokenizer)
        self._domain, self._document_mask, self._recut = domain, document_mask, recut

    def __call__(self, engine: Measurable, done: int) -> Row:
        """``bits_per_byte_SOURCE`` of the model as it is; every rank calls it."""
        measured = self.losses(engine)
        every = measured | by_domain(measured, self._domain)
        return {f"bits_per_byte_{name}": text.bits_per_byte for name, text in every.items()}

    def losses(self, model: Measurable) -> dict[str, TextLoss]:
        """The loss of each source's text; every rank calls it."""
        texts = [self._batches(source, model.rank, model.world) for source in self._rows]
        found = text_losses(model, texts, self._bytes_V, document_mask=self._document_mask)
        return dict(zip(self._rows, found, strict=True))

    def _batches(self, source: str, rank: int, world: int) -> Iterator[TrainingBatch]:
        """Of this rank's rows, as many on every rank, for experts are exchanged in each: what is read twice counts
        once."""
        rows, reader = self._rows[source], self._readers[source]
        numbers = range(rank, -(-rows // world) * world, world)
        at_once = max(1, TOKENS_AT_ONCE // reader.sequence_length)
        for start in range(0, len(numbers), at_once):
            mine = numbers[start : start + at_once]
            read = [reader.batch(min(number, rows - 1)) for number in mine]
            tokens_BT = torch.cat([row.tokens for row in read])
            is_new_B1 = torch.tensor(mine)[:, None] < rows
            documents_BT = torch.cat([row.documents for row in read])
            batch = TrainingBatch(tokens_BT, documents_BT, is_new_B1.expand_as(tokens_BT))
            yield self._recut(batch) if self._recut else batch
