"""The output layer, and the loss of what it predicts without ever holding all logits.

The logits of a batch are the largest tensor of a training by far (a vocabulary of 100 thousand at 4 K tokens is 1.6 GB,
three times over in a cross entropy). Here they are made some rows at a time, and each chunk's gradient with respect to
states and weights is taken at once: the loss is a sum, so its gradient is known but for one factor. Rows that are not
learned are left out before the product.

Shapes: t rows (rows of a batch x positions), D hidden, V vocabulary, c rows of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["IGNORED", "Learned", "OutputLayer"]

IGNORED = -100
"""Target of a position that is not learned from, as torch has it."""
CPU_LOGITS, GPU_LOGITS = 1 << 20, 1 << 27
"""Logits of a chunk: 4 MiB stay in a CPU's cache; a GPU wants large products."""
LEAST_ROWS = 128
"""Of a chunk, whatever the vocabulary: narrower products are slow."""


@dataclass(frozen=True)
class Learned:
    """Which rows are learned from. Found where a batch is made, nobody waits for the device that it is learned on."""

    places_t: Tensor
    """Their numbers, int64."""
    tokens_t: Tensor
    """The token that each predicts, int64."""

    @classmethod
    def of(cls, targets: Tensor) -> Learned:
        """From int64 targets of all rows, `IGNORED` ones apart. Asked of a GPU, this waits for all work before."""
        targets_t = targets.flatten()
        places_t = (targets_t != IGNORED).nonzero().flatten()
        return cls(places_t, targets_t.index_select(0, places_t) if len(places_t) < len(targets_t) else targets_t)


class OutputLayer(nn.Linear):
    """From normed states to logits, or with targets to the sum of their cross entropies."""

    def __init__(self, hidden: int, vocabulary: int) -> None:
        super().__init__(hidden, vocabulary, bias=False)

    def forward(self, h: Tensor, targets: Tensor | Learned | None = None) -> Tensor:
        """Logits [..., V] of the states [..., D]; or the summed loss of int64 `targets` [...], `IGNORED` ones apart."""
        if targets is None:
            return super().forward(h)
        learned = targets if isinstance(targets, Learned) else Learned.of(targets)
        h_tD, targets_t = h.flatten(0, -2), learned.tokens_t
        if len(targets_t) < len(h_tD):
            h_tD = h_tD.index_select(0, learned.places_t)
        weight_VD: Tensor = self.weight
        if torch.is_autocast_enabled(h.device.type):
            dtype = torch.get_autocast_dtype(h.device.type)
            h_tD, weight_VD = h_tD.to(dtype), weight_VD.to(dtype)
        if not torch.is_grad_enabled():  # a Function hears all the same that weights need a gradient
            h_tD, weight_VD = h_tD.detach(), weight_VD.detach()
        loss: Tensor = _SummedLoss.apply(h_tD, weight_VD, targets_t)
        return loss


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h_tD: Tensor, weight_VD: Tensor, targets_t: Tensor) -> Tensor:
        is_trained = any(ctx.needs_input_grad)
        d_h_tD = torch.empty_like(h_tD) if is_trained else None
        d_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if is_trained else None
        total = torch.zeros((), dtype=torch.float32, device=h_tD.device)
        logits = GPU_LOGITS if h_tD.is_cuda else CPU_LOGITS
        rows = max(LEAST_ROWS, logits // len(weight_VD))
        for start in range(0, len(h_tD), rows):
            h_cD, targets_c1 = h_tD[start : start + rows], targets_t[start : start + rows, None]
            log_p_cV = (h_cD @ weight_VD.t()).float().log_softmax(-1)
            total -= log_p_cV.gather(1, targets_c1).sum()
            if d_h_tD is None or d_weight_VD is None:
                continue
            d_logits_cV = log_p_cV.exp_()
            d_logits_cV.scatter_add_(1, targets_c1, torch.full_like(targets_c1, -1.0, dtype=torch.float32))
            d_logits_cV = d_logits_cV.to(weight_VD.dtype)
            torch.mm(d_logits_cV, weight_VD, out=d_h_tD[start : start + rows])
            if weight_VD.dtype is torch.float32:
                d_weight_VD.addmm_(d_logits_cV.t(), h_cD)
            else:
                d_weight_VD += d_logits_cV.t() @ h_cD
        ctx.dtype, ctx.gradients = weight_VD.dtype, (d_h_tD, d_weight_VD)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = gradients
        (d_h_tD, d_weight_VD), ctx.gradients = ctx.gradients, (None, None)
        if d_h_tD is None:
            raise RuntimeError("the loss can be gone back through once")
        return d_h_tD.mul_(factor), d_weight_VD.mul_(factor).to(ctx.dtype), None
