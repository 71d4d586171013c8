"""The routed experts' products, forward and backward, without a graph of small nodes.

Tokens are sorted by expert, so that an expert's work is a product of a slice with its own matrix. On a GPU all experts'
products are one grouped kernel, and nothing waits for the lengths of the slices; elsewhere each is a product of its
own. One autograd function does it all: gradients of stacked weights are written in place instead of being made one by
one and stacked; what is not a product runs once over all tokens; and the gates are multiplied into the narrow hidden
layer, so that no expert's output has to be kept for theirs. Measured in docs/experiments.md, "Training speed" and "On a
GPU".

Shapes: T tokens, K experts per token, t = T K pairs of token and expert, sorted by expert; E experts, D hidden,
F expert width; X and Y the widths of a product's input and output.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Routing", "activated", "compile_activations", "gated_experts", "products", "takes_grouped"]

ALIGNED = 16
"""Bytes that a row of each operand of the grouped kernel is a multiple of."""


def takes_grouped(x_TD: Tensor, *weights_EYX: Tensor) -> bool:
    """Whether the grouped kernel is there for these: bf16 on a GPU since Ampere, widths of whole 16 bytes."""
    if not x_TD.is_cuda or x_TD.dtype is not torch.bfloat16:
        return False
    widths = [width for weight_EYX in weights_EYX for width in weight_EYX.shape[1:]]
    is_aligned = not any(width * x_TD.element_size() % ALIGNED for width in widths)
    return is_aligned and torch.cuda.get_device_capability(x_TD.device) >= (8, 0)


def products(routing: Routing, x_TD: Tensor, *weights_EYX: Tensor) -> _OneByOne | _Grouped:
    """What multiplies rows of each expert with its matrices, in the order of `routing`."""
    return _Grouped(routing) if takes_grouped(x_TD, *weights_EYX) else _OneByOne(routing)


class Routing:
    """The pairs of token and expert in the order of the experts."""

    def __init__(self, experts_t: Tensor, experts: int, per_token: int = 1, *, tokens_t: Tensor | None = None) -> None:
        """Pair i goes to expert ``experts_t[i]`` of `experts`; it belongs to token ``tokens_t[i]``, or when that is not
        given to token ``i // per_token``."""
        sorted_t, self.order_t = experts_t.sort(stable=True)
        """The pair at each place."""
        self.tokens_t = self.order_t // per_token if tokens_t is None else tokens_t[self.order_t]
        """The token at each place."""
        self.per_token = per_token if tokens_t is None else None
        numbers_E = torch.arange(experts, device=experts_t.device, dtype=experts_t.dtype)
        self.ends_E = torch.searchsorted(sorted_t, numbers_E, right=True, out_int32=True)
        """The place after the last of each expert."""

    @functools.cached_property
    def slices(self) -> list[tuple[int, slice]]:
        """The places of each expert that has any. On a GPU, asking waits for all work before."""
        ends = self.ends_E.tolist()
        return [
            (expert, slice(start, end))
            for expert, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
            if end > start
        ]

    @property
    def counts_E(self) -> Tensor:
        """Pairs of each expert, int32."""
        return self.ends_E.diff(prepend=self.ends_E.new_zeros(1))

    def summed(self, y_tD: Tensor, like_TD: Tensor) -> Tensor:
        """Each token's sum [T, D] over its pairs.

        On a GPU, where adding rows up in place has no fixed order, they are brought together first: the same bits every
        time, and sums of 16-bit numbers that are rounded once.
        """
        if y_tD.is_cuda and self.per_token is not None:
            return self.brought_together(y_tD, self.per_token).sum(1)
        return torch.zeros_like(like_TD).index_add_(0, self.tokens_t, y_tD)

    def brought_together(self, y_tD: Tensor, per_token: int) -> Tensor:
        """[T, K, D]: the rows of each token, in the order in which it chose its experts."""
        place_t = torch.empty_like(self.order_t)
        place_t[self.order_t] = torch.arange(len(place_t), device=place_t.device)
        return y_tD.index_select(0, place_t).view(-1, per_token, y_tD.shape[1])


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
        multiply = products(routing, x_TD, down_EDF, *up_EXD)
        x_tD = x_TD.index_select(0, routing.tokens_t)
        gate_up_tX = multiply.forward(x_tD, *up_EXD)
        inner_tF = _activation.forward(gate_up_tX, gates_t[routing.order_t, None])
        y_tD = multiply.forward(inner_tF, down_EDF, spare=x_tD)
        ctx.save_for_backward(x_TD, gates_t, gate_up_tX, down_EDF, *up_EXD)
        ctx.routing, ctx.multiply = routing, multiply
        return routing.summed(y_tD, x_TD)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (dy_TD,) = gradients
        routing: Routing = ctx.routing
        multiply: _OneByOne | _Grouped = ctx.multiply
        x_TD, gates_t, gate_up_tX, down_EDF, *up_EXD = ctx.saved_tensors
        tokens_t, order_t = routing.tokens_t, routing.order_t
        dy_tD = dy_TD.to(x_TD.dtype).index_select(0, tokens_t)
        d_inner_tF = multiply.to_input((dy_tD,), (down_EDF,))
        inner_tF, d_pairs_t, d_gate_up_tX = _activation.backward(gate_up_tX, gates_t[order_t, None], d_inner_tF)
        d_gates_t = torch.empty_like(gates_t)
        d_gates_t[order_t] = d_pairs_t
        d_down_EDF = multiply.to_weight(dy_tD, inner_tF, down_EDF)
        parts = d_gate_up_tX.chunk(len(up_EXD), dim=1)
        x_tD = x_TD.index_select(0, tokens_t)
        d_up_EXD = [multiply.to_weight(part, x_tD, weight) for part, weight in zip(parts, up_EXD, strict=True)]
        dx_tD = multiply.to_input(parts, up_EXD, spare=dy_tD)
        return routing.summed(dx_tD, x_TD), d_gates_t, None, d_down_EDF, *d_up_EXD


def _swiglu(gate_up_tX: Tensor, gates_t1: Tensor) -> Tensor:
    """The inner layer [t, F], times the gates."""
    gate_tF, up_tF = gate_up_tX.chunk(2, dim=1)
    return F.silu(gate_tF).mul_(up_tF).mul_(gates_t1)


def _swiglu_backward(gate_up_tX: Tensor, gates_t1: Tensor, d_inner_tF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The inner layer anew, and the gradients of the gates [t] and of `gate_up_tX`; overwrites `d_inner_tF`."""
    gate_tF, up_tF = gate_up_tX.chunk(2, dim=1)
    silu_tF = F.silu(gate_tF)
    inner_tF = silu_tF * up_tF
    d_gates_t = (d_inner_tF * inner_tF).sum(1)
    inner_tF.mul_(gates_t1)
    d_inner_tF.mul_(gates_t1)
    d_gate_up_tX = torch.empty_like(gate_up_tX)
    d_gate_tF, d_up_tF = d_gate_up_tX.chunk(2, dim=1)
    torch.mul(d_inner_tF, silu_tF, out=d_up_tF)
    d_gate_tF.copy_(torch.ops.aten.silu_backward(d_inner_tF.mul_(up_tF), gate_tF))
    return inner_tF, d_gates_t, d_gate_up_tX


@dataclass
class _Activation:
    """What runs between the experts' products."""

    forward: Callable[[Tensor, Tensor], Tensor] = _swiglu
    backward: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]] = _swiglu_backward


_activation = _Activation()


def activated(gate_up_tX: Tensor, gates_t1: Tensor) -> Tensor:
    """The inner layer [t, F], times the gates."""
    inner_tF: Tensor = _Activated.apply(gate_up_tX, gates_t1)
    return inner_tF


class _Activated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up_tX: Tensor, gates_t1: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up_tX, gates_t1)
        return _activation.forward(gate_up_tX, gates_t1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate_up_tX, gates_t1 = ctx.saved_tensors
        _, d_gates_t, d_gate_up_tX = _activation.backward(gate_up_tX, gates_t1, gradients[0].clone())
        return d_gate_up_tX, d_gates_t[:, None]


def compile_activations() -> None:
    """Let torch.compile make one kernel of each pass over the inner layers, in this process from now on.

    On a GPU alone, where all experts' rows are one shape; on a CPU the passes cost little beside the products.
    """
    if torch.cuda.is_available():
        _activation.forward, _activation.backward = torch.compile(_swiglu), torch.compile(_swiglu_backward)


class _OneByOne:
    """The products of stacked weights with the rows of their experts, one expert after the other.

    `spare` is memory of the result's shape that nobody needs any more.
    """

    def __init__(self, routing: Routing) -> None:
        self.slices = routing.slices

    def forward(self, x_tX: Tensor, *weights_EYX: Tensor, spare: Tensor | None = None) -> Tensor:
        """Rows times the transposed weights, those of several weights side by side."""
        width = sum(weight.shape[1] for weight in weights_EYX)
        y_tY = x_tX.new_empty(len(x_tX), width) if spare is None else spare
        parts = y_tY.chunk(len(weights_EYX), dim=1)
        for expert, rows in self.slices:
            for part, weight in zip(parts, weights_EYX, strict=True):
                torch.mm(x_tX[rows], weight[expert].t(), out=part[rows])
        return y_tY

    def to_input(
        self, parts_tY: Sequence[Tensor], weights_EYX: Sequence[Tensor], spare: Tensor | None = None
    ) -> Tensor:
        """The gradient of the rows from those of their outputs."""
        dx_tX = parts_tY[0].new_empty(len(parts_tY[0]), weights_EYX[0].shape[2]) if spare is None else spare
        for expert, rows in self.slices:
            torch.mm(parts_tY[0][rows], weights_EYX[0][expert], out=dx_tX[rows])
            for part, weight in zip(parts_tY[1:], weights_EYX[1:], strict=True):
                dx_tX[rows].addmm_(part[rows], weight[expert])
        return dx_tX

    def to_weight(self, dy_tY: Tensor, x_tX: Tensor, weight_EYX: Tensor) -> Tensor:
        """The gradient of a weight: zero where an expert has no token."""
        is_full = len(self.slices) == len(weight_EYX)
        gradient_EYX = torch.empty_like(weight_EYX) if is_full else torch.zeros_like(weight_EYX)
        for expert, rows in self.slices:
            torch.mm(dy_tY[rows].t(), x_tX[rows], out=gradient_EYX[expert])
        return gradient_EYX


class _Grouped:
    """The same, all experts in one kernel."""

    def __init__(self, routing: Routing) -> None:
        self.ends_E = routing.ends_E

    def forward(self, x_tX: Tensor, *weights_EYX: Tensor, spare: Tensor | None = None) -> Tensor:
        """Rows times the transposed weights, those of several weights side by side."""
        outputs = [F.grouped_mm(x_tX, weight.transpose(1, 2), offs=self.ends_E) for weight in weights_EYX]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def to_input(
        self, parts_tY: Sequence[Tensor], weights_EYX: Sequence[Tensor], spare: Tensor | None = None
    ) -> Tensor:
        """The gradient of the rows from those of their outputs."""
        first, *others = zip(parts_tY, weights_EYX, strict=True)
        dx_tX = F.grouped_mm(*first, offs=self.ends_E)
        for part_tY, weight_EYX in others:
            dx_tX += F.grouped_mm(part_tY, weight_EYX, offs=self.ends_E)
        return dx_tX

    def to_weight(self, dy_tY: Tensor, x_tX: Tensor, weight_EYX: Tensor) -> Tensor:
        """The gradient of a weight: zero where an expert has no token, as a sum over nothing is."""
        return F.grouped_mm(dy_tY.t(), x_tX, offs=self.ends_E)
