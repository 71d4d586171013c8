"""Expert parallelism on a CPU: what AutoEP's layers do between gate and shared experts, with less sent and copied.

AutoEP sends a token once for each of its experts and brings every expert's output back. Here a rank is sent a token
once however many of its experts are wanted, with the gates and the experts' numbers in the same message, and sends back
the gated sum: with 6 of 32 experts on two ranks a third of the bytes, each way and in both passes. Its experts then
work by `model.architecture.grouped`, where AutoEP pads every expert's tokens and scatters them back. Layers, parameters
and groups stay AutoEP's. (DeepSeek-V3 sends a token once to a node for the same reason, section 3.2.2.)

Shapes: T tokens of this rank, D hidden, K experts per token, R ranks that share the experts, n tokens sent,
m tokens received, p pairs of a received token and an expert of this rank.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.architecture.grouped import Routing, gated_experts

__all__ = ["exchange_compactly"]


def exchange_compactly(model: nn.Module) -> None:
    """Let the AutoEP layers of `model` work as this module says; to be called once they have their group."""
    layer: Any
    for layer in model.modules():
        if getattr(layer, "_is_autoep_layer", False) and layer.ep_size > 1:
            layer.forward = functools.partial(_layer, layer)
            # A module's own forward, so that ZeRO-3 gathers its weights for it.
            layer.experts.forward = functools.partial(_experts, layer.experts)


def _layer(layer: Any, x_BLD: Tensor) -> Tensor:
    x_TD = x_BLD.flatten(0, -2)
    gates_TK, experts_TK, _ = layer.router(x_TD, layer.expert_bias)
    ranks, local = layer.ep_size, layer.num_local_experts
    is_at_RTK = experts_TK // local == torch.arange(ranks, device=x_TD.device)[:, None, None]
    rank_n, token_n = is_at_RTK.any(-1).nonzero(as_tuple=True)
    is_here_nK = is_at_RTK[rank_n, token_n]
    gates_nK = gates_TK.index_select(0, token_n).to(x_TD.dtype)
    numbers_nK = (experts_TK[token_n] - rank_n[:, None] * local).masked_fill(~is_here_nK, -1)
    message_nX = torch.cat((x_TD.index_select(0, token_n), gates_nK, numbers_nK.to(x_TD.dtype)), dim=1)

    sent_R = rank_n.bincount(minlength=ranks)
    received_R = torch.empty_like(sent_R)
    dist.all_to_all_single(received_R, sent_R, group=layer.ep_group)
    sent, received = sent_R.tolist(), received_R.tolist()
    message_mX = _AllToAll.apply(message_nX, layer.ep_group, sent, received)
    y_mD = layer.experts(message_mX, x_TD.shape[1])
    y_nD = _AllToAll.apply(y_mD, layer.ep_group, received, sent)
    y_TD = torch.zeros_like(x_TD).index_add(0, token_n, y_nD.to(x_TD.dtype))  # autocast may have made it bf16
    y_BLD: Tensor = layer._finalize_output(y_TD.view_as(x_BLD), x_TD, x_BLD, x_TD.shape[1])
    return y_BLD


def _experts(experts: Any, message_mX: Tensor, hidden: int) -> Tensor:
    """The gated sums [m, D] of this rank's experts."""
    x_mD, rest_mX = message_mX.tensor_split((hidden,), dim=1)
    gates_mK, numbers_mK = rest_mX.chunk(2, dim=1)
    token_p, place_p = (numbers_mK.detach() >= 0).nonzero(as_tuple=True)
    experts_p = numbers_mK.detach()[token_p, place_p].long()
    gates_p = gates_mK.flatten().index_select(0, token_p * gates_mK.shape[1] + place_p)
    routing = Routing(experts_p, len(experts.w2), tokens_t=token_p)
    return gated_experts(x_mD.contiguous(), gates_p, routing, experts.w2, experts.w1, experts.w3)


class _AllToAll(torch.autograd.Function):
    """Rows to the ranks of a group, ``sent[r]`` to rank r in their order; the gradient goes the same way back."""

    @staticmethod
    def forward(ctx: Any, rows_nX: Tensor, group: Any, sent: list[int], received: list[int]) -> Tensor:
        ctx.group, ctx.sent, ctx.received = group, sent, received
        return _exchanged(rows_nX, group, sent, received)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _exchanged(gradients[0], ctx.group, ctx.received, ctx.sent), None, None, None


def _exchanged(rows_nX: Tensor, group: Any, sent: list[int], received: list[int]) -> Tensor:
    rows_mX = rows_nX.new_empty(sum(received), rows_nX.shape[1])
    dist.all_to_all_single(rows_mX, rows_nX.contiguous(), received, sent, group=group)
    return rows_mX
