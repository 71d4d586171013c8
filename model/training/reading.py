"""How well a model in training reads the held-out text of every source: what a stage gains there, and what it forgets.

Measured through the engine, so that experts may be spread over ranks. The rows are the first of each source in the
order of the shards' reader, as in `model.evaluation.evaluate`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from model.training.batches import TrainingBatch
from model.training.engine import Engine
from model.training.journal import Row
from model.training.sources import token_bytes
from model.training.text_loss import TextSums, by_domain, check_domain, losses_of
from pipeline.tokens.reader import ShardReader

__all__ = ["Reading"]


class Reading:
    """Measures bits per byte of each source's held-out text; ranks share the rows out.

    Args:
        shards: the artifact.
        tokenizer: the artifact.
        rows: of each source at most.
        domain: sources that are measured together as well, and all others together.
        document_mask: whether a token sees its own document alone.

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
    ) -> None:
        counts = ShardReader(shards, "validation", global_batch=1).source_rows
        check_domain(domain, counts)
        self._rows = {source: min(counts[source], rows) for source in sorted(counts) if counts[source]}
        self._readers = {
            source: ShardReader(shards, "validation", global_batch=1, mixture={source: 1.0}, verify=False)
            for source in self._rows
        }
        self._bytes_V = token_bytes(tokenizer)
        self._domain, self._document_mask = domain, document_mask

    @torch.no_grad()
    def __call__(self, engine: Engine, done: int) -> Row:
        """``bits_per_byte_SOURCE`` of the model as it is; every rank calls it."""
        sums = TextSums(len(self._rows), self._bytes_V, engine.device)
        for place, (source, rows) in enumerate(self._rows.items()):
            # experts are exchanged between ranks, so all read equally often; what is read twice counts once
            for turn in range(-(-rows // engine.world)):
                number = turn * engine.world + engine.rank
                row = self._readers[source].batch(min(number, rows - 1))
                batch = TrainingBatch(row.tokens, row.documents)
                loss = self._loss(engine, batch)
                if number < rows:
                    sums.add(place, batch, loss)
        measured = dict(zip(self._rows, losses_of(engine.all_reduce_sum(sums.tensor())), strict=True))
        every = measured | by_domain(measured, self._domain)
        return {f"bits_per_byte_{name}": text.bits_per_byte for name, text in every.items()}

    def _loss(self, engine: Engine, batch: TrainingBatch) -> Tensor:
        there = batch.to(engine.device)
        logits_BTV = engine.forward(there.tokens_BT, there.documents_BT if self._document_mask else None)
        loss_tokens_BT = there.loss_tokens_BT()
        targets_N = there.tokens_BT[:, 1:][loss_tokens_BT]
        return F.cross_entropy(logits_BTV[:, :-1][loss_tokens_BT].float(), targets_N, reduction="sum")
