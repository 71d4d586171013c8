"""Causal attention on a CPU, trained in fp32: in blocks of queries, each against the keys up to its own end.

torch's CPU kernels either compute what the mask hides (unequal widths of query and value, as latent attention has them)
or recompute the scores in the backward pass. This one does neither: a block of queries meets the keys from the first
that any of it sees to its own end, so that neither the future nor other documents of a packed row are computed, and the
weights are kept. Measured in docs/experiments.md, "Training speed".

Shapes: B rows, T tokens, N heads, Q query and key width, V value width, b queries of a block, S keys that it meets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["BLOCK", "attend_in_blocks", "suits_blocks"]

BLOCK = 128
"""Queries of a block."""
LONGEST = 2048
"""Tokens up to which keeping the weights pays; beyond, the fused kernels' memory, linear in T, is worth its work."""


def suits_blocks(q: Tensor, k: Tensor, mask: Tensor | None) -> bool:
    """Whether this is the kernel for [B, T, N, Q] queries, keys of as many heads, and an additive mask."""
    return (
        q.device.type == "cpu"
        and torch.is_grad_enabled()
        and q.dtype is torch.float32
        and q.shape == k.shape
        and 1 < q.shape[1] <= LONGEST
        and (mask is None or mask.dtype is torch.float32)
    )


def attend_in_blocks(q_BTNQ: Tensor, k_BTNQ: Tensor, v_BTNV: Tensor, mask_BTT: Tensor | None, scale: float) -> Tensor:
    """Attention [B, T, N, V] of every token to those before it; `mask_BTT` is added to the logits besides."""
    y_BTNV: Tensor = _CausalBlocks.apply(q_BTNQ, k_BTNQ, v_BTNV, mask_BTT, scale)
    return y_BTNV


def _blocks(length: int) -> Iterator[slice]:
    parts = math.ceil(length / BLOCK)
    size = math.ceil(length / parts)
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


class _CausalBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_BTNQ: Tensor, k_BTNQ: Tensor, v_BTNV: Tensor, mask_BTT: Tensor | None, scale: float
    ) -> Tensor:
        q_BNTQ, k_BNTQ, v_BNTV = (x.transpose(1, 2).contiguous() for x in (q_BTNQ, k_BTNQ, v_BTNV))
        y_BNTV = torch.empty_like(v_BNTV)
        weights = []
        blocks = list(_blocks(q_BTNQ.shape[1]))
        firsts = [[0] * len(q_BNTQ) if mask_BTT is None else _first_seen(mask_BTT, block) for block in blocks]
        for row, (q_NTQ, k_NTQ, v_NTV, y_NTV) in enumerate(zip(q_BNTQ, k_BNTQ, v_BNTV, y_BNTV, strict=True)):
            for block, first in zip(blocks, firsts, strict=True):
                seen = slice(first[row], block.stop)
                bias_bS = _hidden(block, seen)
                if mask_BTT is not None:
                    bias_bS += mask_BTT[row, block, seen]
                scores_NbS = torch.baddbmm(bias_bS[None], q_NTQ[:, block], k_NTQ[:, seen].transpose(1, 2), alpha=scale)
                weights_NbS = scores_NbS.softmax(-1)
                torch.bmm(weights_NbS, v_NTV[:, seen], out=y_NTV[:, block])
                weights.append(weights_NbS)
        ctx.save_for_backward(q_BNTQ, k_BNTQ, v_BNTV, *weights)
        ctx.scale = scale
        return y_BNTV.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (dy_BTNV,) = gradients
        q_BNTQ, k_BNTQ, v_BNTV, *weights = ctx.saved_tensors
        dy_BNTV = dy_BTNV.transpose(1, 2).contiguous()
        dq_BNTQ, dk_BNTQ, dv_BNTV = torch.empty_like(q_BNTQ), torch.zeros_like(k_BNTQ), torch.zeros_like(v_BNTV)
        every = zip(q_BNTQ, k_BNTQ, v_BNTV, dy_BNTV, dq_BNTQ, dk_BNTQ, dv_BNTV, strict=True)
        kept = iter(weights)
        for q_NTQ, k_NTQ, v_NTV, dy_NTV, dq_NTQ, dk_NTQ, dv_NTV in every:
            for block in _blocks(q_NTQ.shape[1]):
                weights_NbS = next(kept)
                seen = slice(block.stop - weights_NbS.shape[2], block.stop)
                dv_NTV[:, seen].baddbmm_(weights_NbS.transpose(1, 2), dy_NTV[:, block])
                d_weights_NbS = dy_NTV[:, block] @ v_NTV[:, seen].transpose(1, 2)
                d_scores_NbS = torch.ops.aten._softmax_backward_data(d_weights_NbS, weights_NbS, -1, torch.float32)
                torch.bmm(d_scores_NbS, k_NTQ[:, seen], out=dq_NTQ[:, block])
                dk_NTQ[:, seen].baddbmm_(d_scores_NbS.transpose(1, 2), q_NTQ[:, block], alpha=ctx.scale)
        dq_BNTQ.mul_(ctx.scale)
        return dq_BNTQ.transpose(1, 2), dk_BNTQ.transpose(1, 2), dv_BNTV.transpose(1, 2), None, None


def _hidden(block: slice, seen: slice) -> Tensor:
    """[b, S]: minus infinity for the keys after each query of a block."""
    hidden_bS = torch.full((block.stop - block.start, seen.stop - seen.start), -torch.inf)
    return hidden_bS.triu_(block.start + 1 - seen.start)


def _first_seen(mask_BTT: Tensor, block: slice) -> list[int]:
    """For each row the first key that any query of a block sees."""
    is_seen_BS = (mask_BTT[:, block, : block.stop] > -torch.inf).any(1)
    first: list[int] = is_seen_BS.to(torch.uint8).argmax(1).tolist()
    return first
