"""What is learned by next-token and by multi-token prediction (DeepSeek-V3, section 2.2, Eq 24-25).

Shapes: B rows of this rank, T tokens, V vocabulary; depth k = 1, 2, ... predicts k tokens beyond the next one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.architecture.output import IGNORED
from model.sections import TrainingConfig

__all__ = ["loss_tokens_at", "prediction_weight", "targets_at"]


def loss_tokens_at(
    depth: int, tokens_BT: Tensor, documents_BT: Tensor | None = None, loss_mask_BT: Tensor | None = None
) -> Tensor:
    """True [B, T - depth - 1] where the token `depth` + 1 places after a position is learned from it: it belongs to the
    same document, a run of equal numbers, and its loss mask is set. Depth 0 is the next token."""
    ahead = depth + 1
    mask_BT = torch.ones_like(tokens_BT[:, ahead:], dtype=torch.bool)
    if documents_BT is not None:
        mask_BT &= documents_BT[:, ahead:] == documents_BT[:, :-ahead]
    if loss_mask_BT is not None:
        mask_BT &= loss_mask_BT[:, ahead:].bool()
    return mask_BT


def targets_at(
    depth: int, tokens_BT: Tensor, documents_BT: Tensor | None = None, loss_mask_BT: Tensor | None = None
) -> Tensor:
    """The target [B, T - depth] of each state of a depth: the token `depth` + 1 places on, or `IGNORED` where it is not
    learned. The last state predicts nothing that is there; it stays, for cutting it off would copy all states."""
    loss_tokens_BT = loss_tokens_at(depth, tokens_BT, documents_BT, loss_mask_BT)
    return F.pad(tokens_BT[:, depth + 1 :].masked_fill(~loss_tokens_BT, IGNORED), (0, 1), value=IGNORED)


def prediction_weight(config: TrainingConfig, step: int) -> float:
    """Lambda at a step: V3 takes 0.3 for two thirds of its tokens, then 0.1."""
    is_late = step >= config.prediction_loss_until * config.steps
    return config.prediction_loss_late if is_late else config.prediction_loss
