"""How far a quantized model is from its original: the divergence of the next-token distributions on held-out rows.

Perplexity hides what quantization does to a small model: errors that help by chance cancel those that hurt. The
Kullback-Leibler divergence does not, so it leads; top-1 agreement and perplexity stand beside it.

Shapes: B rows, T positions, D hidden, n counted positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.architecture.transformer import Transformer
from model.release.rows import CalibrationBatch

__all__ = ["Divergence", "Reference", "counted", "uncertainty"]

LOGITS_AT_ONCE = 1 << 25
"""Numbers in the logits of one slice: 128 MiB."""
SURE = 1e-4
"""Least uncertainty of a token: an expert that reads such tokens alone has statistics all the same."""


@dataclass(frozen=True)
class Divergence:
    """Means over the counted positions."""

    kl: float
    """KL(original || quantized) in nats per token."""
    top1: float
    """Share of positions where both find the same token likeliest."""
    perplexity: float
    """Of the quantized model on what really follows."""


def counted(batch: CalibrationBatch) -> Tensor:
    """True [B, T - 1] for positions whose next token is real and of the same document."""
    valid_BT, documents_BT = batch.valid_BT, batch.documents_BT
    return valid_BT[:, :-1] & valid_BT[:, 1:] & (documents_BT[:, :-1] == documents_BT[:, 1:])


@torch.no_grad()
def uncertainty(model: Transformer, batch: CalibrationBatch) -> Tensor:
    """How far an error can move the prediction at each token [t] that is no padding: 1 - sum p^2.

    That is the trace of the Fisher information of its logits, diag(p) - p p^T (Martens 2014, arXiv 1412.1193, section
    9): 0 where the model is sure of the next token, near 1 where it knows little.
    """
    states_tD = model.hidden(batch.tokens_BT, batch.documents_BT)[batch.valid_BT]
    slices = states_tD.split(max(1, LOGITS_AT_ONCE // model.config.vocab_size))
    found = torch.cat([1 - model.lm_head(state_nD).softmax(-1).square().sum(-1) for state_nD in slices])
    return found.clamp(min=SURE)


class Reference:
    """The original's final hidden states on held-out rows, to compare others with."""

    @torch.no_grad()
    def __init__(self, model: Transformer, batches: Sequence[CalibrationBatch]) -> None:
        self.batches = batches
        self.head_VD = model.lm_head.weight.detach().clone()
        self.counted = [counted(batch) for batch in batches]
        self.states = self._states(model)
        self.tokens = sum(int(mask.sum()) for mask in self.counted)

    def _states(self, model: Transformer) -> list[Tensor]:
        return [
            model.hidden(batch.tokens_BT, batch.documents_BT)[:, :-1][counted]
            for batch, counted in zip(self.batches, self.counted, strict=True)
        ]

    @torch.no_grad()
    def compare(self, model: Transformer) -> Divergence:
        """Of `model` from the original."""
        kl = agree = loss = 0.0
        size = max(1, LOGITS_AT_ONCE // len(self.head_VD))
        parts = zip(self._states(model), self.states, self.batches, self.counted, strict=True)
        for states_nD, originals_nD, batch, counted in parts:
            targets_n = batch.tokens_BT[:, 1:][counted]
            slices = zip(states_nD.split(size), originals_nD.split(size), targets_n.split(size), strict=True)
            for state_nD, original_nD, target_n in slices:
                ours_nV = model.lm_head(state_nD).log_softmax(-1)
                theirs_nV = F.linear(original_nD, self.head_VD).log_softmax(-1)
                # summed in fp64: the terms are far larger than their sum
                kl += float((theirs_nV.exp() * (theirs_nV - ours_nV)).sum(-1).double().sum())
                agree += int((ours_nV.argmax(-1) == theirs_nV.argmax(-1)).sum())
                loss += float(F.nll_loss(ours_nV, target_n, reduction="sum"))
        return Divergence(kl / self.tokens, agree / self.tokens, math.exp(loss / self.tokens))
