"""What a training step reads: batches of tokens, where they come from, and reading them before they are wanted.

Shapes: B rows of this rank, T tokens.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from model.architecture.output import Learned
from model.architecture.packed import document_starts
from model.training.prediction import loss_tokens_at, targets_at

__all__ = ["BatchSource", "ReadAhead", "TrainingBatch"]


@dataclass(frozen=True)
class TrainingBatch:
    """One rank's rows of a global batch."""

    tokens_BT: Tensor
    """int64"""
    documents_BT: Tensor | None = None
    """int64: number of each token's document within its row. None: every row is one document."""
    loss_mask_BT: Tensor | None = None
    """True for tokens to be learned. None: all."""

    def _columns(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return self.tokens_BT, self.documents_BT, self.loss_mask_BT

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch on `device`; from pinned memory nobody waits for the copy."""
        return TrainingBatch(*(x if x is None else x.to(device, non_blocking=True) for x in self._columns()))  # type: ignore[arg-type]

    def learned(self, depths: int, device: torch.device) -> list[Learned]:
        """On `device`, what is learned at depths 0 to `depths` of prediction, found where this batch is."""
        columns = self._columns()
        found = [Learned.of(targets_at(depth, *columns)) for depth in range(depths + 1)]
        return [Learned(_sent(each.places_t, device), _sent(each.tokens_t, device)) for each in found]

    def starts(self, depths: int, device: torch.device) -> list[Tensor] | None:
        """On `device`, where the documents of rows without their last 0 to `depths` tokens begin, found where this
        batch is. None on a CPU, which has no use for them."""
        if self.documents_BT is None or device.type == "cpu":
            return None
        length = self.documents_BT.shape[1]
        rows = [self.documents_BT[:, : length - depth] for depth in range(depths + 1)]
        return [_sent(document_starts(documents_BT), device) for documents_BT in rows]

    def pinned(self) -> TrainingBatch:
        """The same batch in memory that a GPU copies from by itself; as it is where there is none."""
        if not torch.cuda.is_available():
            return self
        return TrainingBatch(*(x if x is None else x.pin_memory() for x in self._columns()))  # type: ignore[arg-type]

    def split(self, parts: int) -> list[TrainingBatch]:
        """Cut the rows into micro-batches."""
        columns = [value.chunk(parts) if value is not None else [None] * parts for value in self._columns()]
        return [TrainingBatch(*part) for part in zip(*columns, strict=True)]

    def unlearned(self) -> TrainingBatch:
        """The same rows, of which nothing is learned: for a rank that lacks rows where others have some."""
        return replace(self, loss_mask_BT=torch.zeros_like(self.tokens_BT, dtype=torch.bool))

    def loss_tokens_BT(self) -> Tensor:
        """True [B, T - 1] where the token after position t is learned from it."""
        return loss_tokens_at(0, self.tokens_BT, self.documents_BT, self.loss_mask_BT)


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """`values` on `device`; a GPU copies them by itself, while this process goes on."""
    if device.type == "cuda" and not values.is_cuda:
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


class BatchSource(Protocol):
    """Where batches come from: a pure function of the step.

    Two attributes are optional: ``epoch_steps``, after which the data come round again, and ``repeated``, what is read
    more often than serves, in words.
    """

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """The rows ``rank::world`` of the global batch of `step`."""


class ReadAhead:
    """A `BatchSource` that reads another one's next batches in a thread while a step is computed.

    What it gives for a step is what the other gives. An error is raised where its batch is wanted.

    Args:
        steps: of the run; nothing is read beyond.
        ahead: batches kept ready.
    """

    def __init__(self, source: BatchSource, steps: int, ahead: int = 2) -> None:
        self._source, self._steps, self._ahead = source, steps, ahead
        self.epoch_steps: int | None = getattr(source, "epoch_steps", None)
        self.repeated: str = getattr(source, "repeated", "")
        self._pool = ThreadPoolExecutor(1, "read-ahead")
        self._reading: dict[int, Future[TrainingBatch]] = {}

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """The rows ``rank::world`` of the global batch of `step`; the steps after it are read next."""
        wanted = range(step, min(step + 1 + self._ahead, max(self._steps, step + 1)))
        for place in self._reading.keys() - set(wanted):
            self._reading.pop(place).cancel()
        for place in wanted:
            if place not in self._reading:
                self._reading[place] = self._pool.submit(self._read, place, rank, world)
        return self._reading.pop(step).result()

    def _read(self, step: int, rank: int, world: int) -> TrainingBatch:
        return self._source.batch(step, rank, world).pinned()
