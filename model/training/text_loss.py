"""How well a model reads text: the loss of its tokens, and what it says per token and per byte.

Bits per byte compares models of different tokenizers: the loss in bits, over the bytes of text that the tokens stand
for. Whoever measures says how the loss of a batch is computed; what is counted, and how it is added up over batches,
ranks and sources, is written here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.training.batches import TrainingBatch

__all__ = ["TextLoss", "TextSums", "by_domain", "check_domain", "losses_of"]


@dataclass(frozen=True)
class TextLoss:
    """What was measured on some text."""

    nats: float = 0.0
    """Summed over the tokens that are learned."""
    tokens: int = 0
    bytes: int = 0
    """That these tokens stand for; 0 where that is not known."""

    def __add__(self, other: TextLoss) -> TextLoss:
        """Both texts together."""
        return TextLoss(self.nats + other.nats, self.tokens + other.tokens, self.bytes + other.bytes)

    @property
    def per_token(self) -> float:
        """Nats per token."""
        return self.nats / max(self.tokens, 1)

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of text."""
        return self.nats / max(self.bytes, 1) / math.log(2)


class TextSums:
    """Adds up the losses of several texts: on the device, for nobody needs them before the end.

    Args:
        bytes_V: bytes that each token stands for, on the CPU; None where they are not known.
    """

    def __init__(self, texts: int, bytes_V: Tensor | None, device: torch.device) -> None:
        self._bytes_V = bytes_V
        self._nats = torch.zeros(texts, dtype=torch.float64, device=device)
        self._counts = torch.zeros(texts, 2, dtype=torch.float64)

    def add(self, text: int, batch: TrainingBatch, nats: Tensor) -> None:
        """A batch (on the CPU) of a text, and its summed loss [] wherever that is."""
        loss_tokens_BT = batch.loss_tokens_BT()
        self._nats[text] += nats.double()
        self._counts[text, 0] += loss_tokens_BT.sum()
        if self._bytes_V is not None:
            self._counts[text, 1] += self._bytes_V[batch.tokens_BT[:, 1:][loss_tokens_BT]].sum()

    def tensor(self) -> Tensor:
        """Nats, tokens and bytes [texts, 3], on the device: what ranks add up."""
        return torch.cat((self._nats[:, None], self._counts.to(self._nats.device)), dim=1)


def losses_of(sums: Tensor) -> list[TextLoss]:
    """What `TextSums.tensor` holds, of each text."""
    return [TextLoss(nats, int(tokens), int(size)) for nats, tokens, size in sums.tolist()]


def check_domain(domain: Iterable[str], sources: Iterable[str]) -> None:
    """ValueError when `domain` names what is not among the `sources`."""
    there = list(sources)
    if unknown := set(domain) - set(there):
        raise ValueError(f"domain: no source is named {', '.join(sorted(unknown))}; there are {', '.join(there)}")


def by_domain(measured: Mapping[str, TextLoss], domain: Iterable[str]) -> dict[str, TextLoss]:
    """Of the texts of all sources, those of the sources in `domain` together, and all others: what there is of the two;
    nothing where no domain is named."""
    inside = set(domain)
    groups = {
        name: sum((loss for source, loss in measured.items() if (source in inside) is is_inside), TextLoss())
        for name, is_inside in (("domain", True), ("general", False))
    }
    return {name: loss for name, loss in groups.items() if loss.bytes} if inside else {}
