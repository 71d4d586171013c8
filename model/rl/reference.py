"""What a policy must not stray far from: the model that it was when training began, or when the reference was renewed.

A policy whose weights are trained needs a frozen copy of them. With adapters the weights beside those are frozen
already, so the factors of then are all that is kept: the model computes with them where the reference is asked.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from model.architecture.transformer import Transformer
from model.rl.batches import MicroBatch
from model.training.engine import own_weights
from model.training.lora import Adapters
from model.training.universal import CheckpointReader, Fragment

__all__ = ["FormerFactors", "FrozenCopy", "Reference"]

KIND = "reference"
"""Of a renewed reference's weights in a checkpoint."""


class Reference:
    """Weights that stay until they are renewed, and the model that computes with them."""

    def __init__(self, model: Transformer, weights: dict[str, Tensor]) -> None:
        self.model, self.weights = model, weights
        self.is_renewed = False

    def log_probabilities(self, part: MicroBatch) -> Tensor:
        """Log probabilities [N] of the answer tokens."""
        with torch.no_grad(), self._in_place():
            return part.log_probabilities(self.model)[0]

    def _in_place(self) -> AbstractContextManager[None]:
        """While the model has the weights."""
        return nullcontext()

    def _newest(self, actor: Transformer) -> dict[str, Tensor]:
        """What the policy of now, whose answers `actor` writes, has in place of the weights."""
        return own_weights(actor)

    @torch.no_grad()
    def renew(self, actor: Transformer) -> None:
        """Make the policy of now the reference."""
        newest = self._newest(actor)
        for name, value in self.weights.items():
            value.copy_(newest[name])
        self.is_renewed = True

    def fragments(self) -> Iterator[Fragment]:
        """Its pieces of a checkpoint: none until it is renewed, for it follows from the start."""
        for name, value in self.weights.items() if self.is_renewed else ():
            yield Fragment(KIND, name, 0, value.flatten())

    @torch.no_grad()
    def load(self, reader: CheckpointReader) -> None:
        """Take what `fragments` gave."""
        self.is_renewed = reader.has(KIND, next(iter(self.weights)))
        for name, value in self.weights.items() if self.is_renewed else ():
            value.copy_(reader.read(KIND, name).view_as(value))


class FrozenCopy(Reference):
    """A whole model of its own; to be made before the gates of `model` are hooked."""

    def __init__(self, model: Transformer, device: torch.device) -> None:
        frozen = copy.deepcopy(model).requires_grad_(False).eval().to(device)
        super().__init__(frozen, own_weights(frozen))


class FormerFactors(Reference):
    """The policy itself with the factors that its adapters had then: to the bit what a copy would say."""

    def __init__(self, adapters: Adapters) -> None:
        self._adapters = adapters
        super().__init__(adapters.model, {name: factor.detach().clone() for name, factor in adapters.factors().items()})

    def _in_place(self) -> AbstractContextManager[None]:
        return self._adapters.holding(self.weights)

    def _newest(self, actor: Transformer) -> dict[str, Tensor]:
        return dict(self._adapters.factors())
