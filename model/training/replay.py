"""Replay: text that fine-tuning goes on reading beside its own data, so that the model does not unlearn it.

Each kind of rows enters the loss by the mean over its own tokens, so that a row of text, of which every token is
learned, does not outweigh a row of chats, of which the answers are:

    loss = own + sum of share / (1 - all shares) * mean token loss of the kind

That is the share of the whole but for a common factor, which Adam and Muon do not see; the stage's own loss keeps its
scale. For reinforcement it is InstructGPT's PPO-ptx (arXiv 2203.02155, Eq 2). The rows of an update follow from its
number alone, so that a run resumes where it was, and are the same on any number of ranks.

Shapes: B rows of this rank, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.training.batches import BatchSource, TrainingBatch
from model.training.engine import Engine

__all__ = ["Replay", "Stream"]

Loss = Callable[[TrainingBatch], Tensor]
"""The summed loss [] of a micro-batch on the CPU, with its gradient."""


@dataclass(frozen=True)
class Stream:
    """One kind of rows."""

    name: str
    source: BatchSource
    rows: int
    """Of an update, over all ranks: what `source` gives for one step,"""
    length: int
    """of so many tokens each."""
    weight: float
    """Of its mean token loss, where the stage's own loss has 1."""
    at_once: int
    """Rows of this rank that go through the model together."""
    identity: str
    """A digest of the contents."""


class Replay:
    """What is read again in every update."""

    def __init__(self, streams: Sequence[Stream] = ()) -> None:
        self.streams = tuple(streams)

    @property
    def identity(self) -> str:
        """Of all that is read."""
        return "".join(stream.identity for stream in self.streams)

    @property
    def tokens(self) -> int:
        """Of an update, over all ranks."""
        return sum(stream.rows * stream.length for stream in self.streams)

    @property
    def measures(self) -> list[str]:
        """Names of what `learn` returns."""
        return [f"{stream.name}_loss" for stream in self.streams]

    def learn(self, engine: Engine, number: int, loss_of: Loss) -> dict[str, Tensor]:
        """Add the gradient of the rows of update `number`; every rank calls it before its own last micro-batch.

        Returns:
            The mean token loss [] of each kind, over all ranks, as ``NAME_loss``.
        """
        losses = (_learn(stream, engine, number, loss_of) for stream in self.streams)
        return dict(zip(self.measures, losses, strict=True))


def _learn(stream: Stream, engine: Engine, number: int, loss_of: Loss) -> Tensor:
    parts = _parts(stream, engine, number)
    (count,) = engine.all_reduce_host([float(sum(part.loss_tokens_BT().sum() for part in parts))])
    total = torch.zeros((), dtype=torch.float64, device=engine.device)
    for part in parts:
        engine.watch.begin(len(part.tokens_BT))
        loss = loss_of(part) / max(count, 1)
        balance = engine.watch.take_loss()
        total += engine.all_reduce_sum(loss.detach().double())
        engine.backward(stream.weight * (loss + balance / (engine.world * len(parts))), last=False)
    return total


def _parts(stream: Stream, engine: Engine, number: int) -> list[TrainingBatch]:
    """This rank's rows in micro-batches, as many on every rank, for experts are exchanged in each: where rows are
    wanting, one that teaches nothing."""
    rows = [stream.source.batch(number, place, stream.rows) for place in range(engine.rank, stream.rows, engine.world)]
    parts = [_joined(rows[start : start + stream.at_once]) for start in range(0, len(rows), stream.at_once)]
    most = len(range(0, stream.rows, engine.world))  # of the first rank
    if len(parts) < len(range(0, most, stream.at_once)):
        parts.append(stream.source.batch(number, 0, stream.rows).unlearned())
    return parts


def _joined(rows: Sequence[TrainingBatch]) -> TrainingBatch:
    columns = zip(*((row.tokens_BT, row.documents_BT, row.loss_mask_BT) for row in rows), strict=True)
    return TrainingBatch(*(None if column[0] is None else torch.cat(column) for column in columns))  # type: ignore[arg-type]
