"""What a loss does not tell: how much a model gains from what it has read, and whether it has learned to copy.

The loss by place in the sequence falls where context helps. Tokens drawn at random and given twice can be predicted in
the second half by copying alone (induction heads; Olsson et al., arXiv 2209.11895, section "Argument 1"); the drop that
comes with learning it is the step in the loss of small models, which some seeds take early and some late.

Shapes: B rows of this rank, T tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.sections import TrainingConfig
from model.training.batches import BatchSource
from model.training.engine import Engine
from model.training.journal import Row

__all__ = ["Diagnosis"]

PARTS = 4
"""Of a sequence."""
FIRST_WORD = 16
"""Lowest token drawn: before it lie the special ones."""


class Diagnosis:
    """Measures both on one batch; every rank calls it alike.

    Args:
        source: of held-out batches, whose first is taken.
        vocabulary: tokens that the model knows.
    """

    def __init__(self, source: BatchSource, vocabulary: int, config: TrainingConfig) -> None:
        self._source, self._vocabulary = source, vocabulary
        self._uses_documents = config.document_mask

    @torch.no_grad()
    def __call__(self, engine: Engine, done: int) -> Row:
        """``loss_part_1`` to ``loss_part_4`` and ``induction``: nats that a token costs less when it repeats."""
        batch = self._source.batch(0, engine.rank, engine.world)
        learned_BT = batch.loss_tokens_BT()
        documents_BT = batch.documents_BT if self._uses_documents else None
        losses_BT = _losses(engine, batch.tokens_BT, documents_BT)
        found: list[Tensor] = []
        for part_BT, is_learned_BT in zip(losses_BT.chunk(PARTS, 1), learned_BT.chunk(PARTS, 1), strict=True):
            is_learned_BT = is_learned_BT.to(engine.device)
            found += [part_BT[is_learned_BT].sum(), is_learned_BT.sum()]
        once_BT, again_BT = self._repeated(engine, batch.tokens_BT.shape)
        found += [once_BT.sum() - again_BT.sum(), torch.tensor(again_BT.numel(), device=engine.device)]
        sums = engine.all_reduce_sum(torch.stack([value.double() for value in found])).view(-1, 2).tolist()
        means = [total / max(count, 1) for total, count in sums]
        return {f"loss_part_{number}": mean for number, mean in enumerate(means[:PARTS], 1)} | {"induction": means[-1]}

    def _repeated(self, engine: Engine, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Losses of the same random tokens when they come first, and when they come again."""
        rows, length = shape
        generator = torch.Generator().manual_seed(engine.rank)
        half_BT = torch.randint(min(FIRST_WORD, self._vocabulary - 1), self._vocabulary, (rows, length // 2),
                                generator=generator)  # fmt: skip
        losses_BT = _losses(engine, torch.cat((half_BT, half_BT), 1), None)
        return losses_BT[:, : length // 2 - 1], losses_BT[:, length // 2 :]


def _losses(engine: Engine, tokens_BT: Tensor, documents_BT: Tensor | None) -> Tensor:
    """Loss [B, T - 1] of each token after the first."""
    tokens_BT = tokens_BT.to(engine.device)
    logits_BTV = engine.forward(tokens_BT, None if documents_BT is None else documents_BT.to(engine.device))
    return F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), tokens_BT[:, 1:].flatten(), reduction="none").view(
        len(tokens_BT), -1
    )
