"""How well a model reads text: the loss of its tokens, and what it says per token and per byte.

Bits per byte compares models of different tokenizers: the loss in bits, over the bytes of text that the tokens stand
for. All losses of tokens, those of training too, come from `token_losses`; none holds all logits
(`model.architecture.output`).

Shapes: B rows of this rank, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from model.training.batches import TrainingBatch

if TYPE_CHECKING:
    from model.architecture.transformer import Transformer

__all__ = ["Alone", "Measurable", "TextLoss", "by_domain", "check_domain", "text_losses", "token_losses"]


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


class Measurable(Protocol):
    """What is asked of an engine (`model.training.engine.Engine`), or of what stands for one, to measure it."""

    rank: int
    world: int
    device: torch.device

    def losses(self, batch: TrainingBatch, depths: int = 0, *, document_mask: bool = True) -> tuple[Tensor, ...]: ...

    def all_reduce_sum(self, values: Tensor) -> Tensor: ...


class Alone:
    """A model that is not in training, measured by one process where it is, in its own precision."""

    rank, world = 0, 1

    def __init__(self, model: Transformer) -> None:
        self.model, self.device = model, model.lm_head.weight.device

    def losses(self, batch: TrainingBatch, depths: int = 0, *, document_mask: bool = True) -> tuple[Tensor, ...]:
        """As `token_losses`."""
        return token_losses(self.model, batch, self.device, depths, document_mask=document_mask)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks: itself."""
        return values


def token_losses(
    model: Callable[..., tuple[Tensor, ...]],
    batch: TrainingBatch,
    device: torch.device,
    depths: int = 0,
    *,
    document_mask: bool = True,
) -> tuple[Tensor, ...]:
    """Summed losses [] of the learned tokens of a batch at depths 0 (the next token) to `depths` of prediction.

    Args:
        model: a `Transformer` on `device`, or what wraps one.
        document_mask: whether a token sees its own document alone; what follows on another is never learned.
    """
    targets, starts = batch.learned(depths, device), batch.starts(depths, device)
    there = batch.to(device)
    documents_BT = there.documents_BT if document_mask else None
    return model(there.tokens_BT, documents_BT=documents_BT, targets=targets, starts=starts)


@torch.no_grad()
def text_losses(
    model: Measurable,
    texts: Sequence[Iterable[TrainingBatch]],
    bytes_V: Tensor | None = None,
    *,
    document_mask: bool = True,
) -> list[TextLoss]:
    """What was measured on each of `texts`; every rank calls it, with as many batches and with rows of its own.

    Args:
        texts: batches on the CPU.
        bytes_V: bytes that each token stands for, on the CPU; None where they are not known.
    """
    nats = torch.zeros(len(texts), dtype=torch.float64, device=model.device)  # nobody needs it before the end
    counts = torch.zeros(len(texts), 2, dtype=torch.float64)
    for text, batches in enumerate(texts):
        for batch in batches:
            nats[text] += model.losses(batch, document_mask=document_mask)[0].double()
            loss_tokens_BT = batch.loss_tokens_BT()
            counts[text, 0] += loss_tokens_BT.sum()
            if bytes_V is not None:
                counts[text, 1] += bytes_V[batch.tokens_BT[:, 1:][loss_tokens_BT]].sum()
    sums = model.all_reduce_sum(torch.cat((nats[:, None], counts.to(model.device)), dim=1))
    return [TextLoss(loss, int(tokens), int(size)) for loss, tokens, size in sums.tolist()]


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
