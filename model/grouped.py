"""The routed experts' products, forward and backward, without a graph of small nodes.

Tokens are sorted by expert, so that an expert's work is a product of a slice with its own matrix. One autograd function
does it all: gradients of stacked weights are written in place instead of being made one by one and stacked; what is not
a product runs once over all tokens; and the gates are multiplied into the narrow hidden layer, so that no expert's
output has to be kept for theirs. Measured in docs/experiments.md, "Training speed".

Shapes: T tokens, K experts per token, t = T K pairs of token and expert, sorted by expert; E experts, D hidden,
F expert width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Routing", "gated_experts"]


class Routing:
    """The pairs of token and expert in the order of the experts."""

    def __init__(self, experts_t: Tensor, experts: int, per_token: int = 1, *, tokens_t: Tensor | None = None) -> None:
        """Pair i goes to expert ``experts_t[i]`` of `experts`; it belongs to token ``tokens_t[i]``, or when that is not
        given to token ``i // per_token``."""
        self.order_t = experts_t.argsort(stable=True)
        """The pair at each place."""
        self.tokens_t = self.order_t // per_token if tokens_t is None else tokens_t[self.order_t]
        """The token at each place."""
        ends = experts_t.bincount(minlength=experts).cumsum(0).tolist()
        self.slices = [
            (expert, slice(start, end))
            for expert, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
            if end > start
        ]
        """The places of each expert that has any."""


def gated_experts(x_TD: Tensor, gates_t: Tensor, routing: Routing, down_EDF: Tensor, *up_EXD: Tensor) -> Tensor:
    """The sum [T, D] over each token's pairs of gate times expert's output (SwiGLU).

    Args:
        gates_t: of each pair, in the order of the pairs before sorting.
        down_EDF: stacked weights.
        up_EXD: gate and up projections, in one tensor [E, 2F, D] or in two [E, F, D].
    """
    kind = x_TD.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        x_TD, down_EDF = x_TD.to(dtype), down_EDF.to(dtype)
        up_EXD = tuple(weight.to(dtype) for weight in up_EXD)
    y_TD: Tensor = _GatedExperts.apply(x_TD, gates_t.to(x_TD.dtype), routing, down_EDF, *up_EXD)
    return y_TD


class _GatedExperts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, gates_t: Tensor, routing: Routing, down_EDF: Tensor, *up_EXD: Tensor) -> Tensor:
        x_tD = x_TD.index_select(0, routing.tokens_t)
        gate_up_tX = x_tD.new_empty(len(x_tD), 2 * down_EDF.shape[2])
        parts = gate_up_tX.chunk(len(up_EXD), dim=1)
        for expert, of_expert in routing.slices:
            for part, weight in zip(parts, up_EXD, strict=True):
                torch.mm(x_tD[of_expert], weight[expert].t(), out=part[of_expert])
        gate_tF, up_tF = gate_up_tX.chunk(2, dim=1)
        inner_tF = F.silu(gate_tF).mul_(up_tF).mul_(gates_t[routing.order_t, None])
        y_tD = x_tD  # no longer needed: its memory takes the outputs
        for expert, of_expert in routing.slices:
            torch.mm(inner_tF[of_expert], down_EDF[expert].t(), out=y_tD[of_expert])
        ctx.save_for_backward(x_TD, gates_t, gate_up_tX, down_EDF, *up_EXD)
        ctx.routing = routing
        return torch.zeros_like(x_TD).index_add_(0, routing.tokens_t, y_tD)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (dy_TD,) = gradients
        routing: Routing = ctx.routing
        x_TD, gates_t, gate_up_tX, down_EDF, *up_EXD = ctx.saved_tensors
        tokens_t, order_t = routing.tokens_t, routing.order_t
        dy_tD = dy_TD.to(x_TD.dtype).index_select(0, tokens_t)
        gates_t1 = gates_t[order_t, None]
        gate_tF, up_tF = gate_up_tX.chunk(2, dim=1)
        silu_tF = F.silu(gate_tF)
        inner_tF = silu_tF * up_tF

        d_inner_tF = torch.empty_like(inner_tF)
        for expert, of_expert in routing.slices:
            torch.mm(dy_tD[of_expert], down_EDF[expert], out=d_inner_tF[of_expert])
        d_gates_t = torch.empty_like(gates_t)
        d_gates_t[order_t] = (d_inner_tF * inner_tF).sum(1)
        inner_tF.mul_(gates_t1)
        d_down_EDF = _gradient_like(down_EDF, routing)
        for expert, of_expert in routing.slices:
            torch.mm(dy_tD[of_expert].t(), inner_tF[of_expert], out=d_down_EDF[expert])

        d_inner_tF.mul_(gates_t1)
        d_gate_up_tX = torch.empty_like(gate_up_tX)
        d_gate_tF, d_up_tF = d_gate_up_tX.chunk(2, dim=1)
        torch.mul(d_inner_tF, silu_tF, out=d_up_tF)
        d_gate_tF.copy_(torch.ops.aten.silu_backward(d_inner_tF.mul_(up_tF), gate_tF))
        parts = d_gate_up_tX.chunk(len(up_EXD), dim=1)
        x_tD = x_TD.index_select(0, tokens_t)
        d_up_EXD = [_gradient_like(weight, routing) for weight in up_EXD]
        for expert, of_expert in routing.slices:
            for part, gradient in zip(parts, d_up_EXD, strict=True):
                torch.mm(part[of_expert].t(), x_tD[of_expert], out=gradient[expert])
        dx_tD = dy_tD  # no longer needed
        for expert, of_expert in routing.slices:
            torch.mm(parts[0][of_expert], up_EXD[0][expert], out=dx_tD[of_expert])
            for part, weight in zip(parts[1:], up_EXD[1:], strict=True):
                dx_tD[of_expert].addmm_(part[of_expert], weight[expert])
        dx_TD = torch.zeros_like(x_TD).index_add_(0, tokens_t, dx_tD)
        return dx_TD, d_gates_t, None, d_down_EDF, *d_up_EXD


def _gradient_like(weight: Tensor, routing: Routing) -> Tensor:
    """Memory for a gradient: zero where an expert has no token."""
    return torch.empty_like(weight) if len(routing.slices) == len(weight) else torch.zeros_like(weight)
