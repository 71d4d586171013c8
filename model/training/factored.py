"""Products of experts' rows with weights that stay and the factors beside them: ``x W^T + s (x A^T) B^T`` for each.

Neither ``W + s B A`` of a layer nor the gradient of it is made, which would be two more copies of its experts; a weight
in codes is decoded again in the backward pass.

Shapes: T tokens, t pairs of token and expert, sorted by expert; E experts, I inputs, O outputs, r rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model.architecture.grouped import Routing, products

__all__ = ["Factored"]


class Factored(torch.autograd.Function):
    """Rows to [t, O]: ``apply(x, a_ErI, b_EOr, weight, scale, routing, is_sorted)``, where `weight` is called for the
    frozen W [E, O, I] in each pass. Rows are [t, I] where they are sorted, else those of the tokens [T, I]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        a_ErI: Tensor,
        b_EOr: Tensor,
        weight: Callable[[], Tensor],
        scale: float,
        routing: Routing,
        is_sorted: bool,
    ) -> Tensor:
        x_tI = x if is_sorted else x.index_select(0, routing.tokens_t)
        w_EOI, a_ErI, b_EOr = _as(x_tI, weight(), a_ErI, b_EOr)
        narrow_tr = products(routing, x_tI, a_ErI).forward(x_tI, a_ErI)
        y_tO = products(routing, x_tI, w_EOI).forward(x_tI, w_EOI)
        y_tO += scale * products(routing, narrow_tr, b_EOr).forward(narrow_tr, b_EOr)
        ctx.save_for_backward(x, narrow_tr, a_ErI, b_EOr)
        ctx.weight, ctx.scale, ctx.routing, ctx.is_sorted = weight, scale, routing, is_sorted
        return y_tO

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, narrow_tr, a_ErI, b_EOr = ctx.saved_tensors
        x_tI = x if ctx.is_sorted else x.index_select(0, ctx.routing.tokens_t)
        dy_tO, w_EOI = _as(x_tI, gradients[0], ctx.weight())
        up, down = (products(ctx.routing, x_tI, factor) for factor in (b_EOr, a_ErI))
        d_narrow_tr = ctx.scale * up.to_input((dy_tO,), (b_EOr,))
        d_b_EOr = ctx.scale * up.to_weight(dy_tO, narrow_tr, b_EOr)
        d_a_ErI = down.to_weight(d_narrow_tr, x_tI, a_ErI)
        dx_tI = products(ctx.routing, x_tI, w_EOI).to_input((dy_tO,), (w_EOI,))
        dx_tI += down.to_input((d_narrow_tr,), (a_ErI,))
        dx = dx_tI if ctx.is_sorted else ctx.routing.summed(dx_tI, x)
        return dx, d_a_ErI.float(), d_b_EOr.float(), None, None, None, None


def _as(x_tI: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """In the type of the rows, and laid out as the grouped kernel wants them."""
    return tuple(tensor.to(x_tI.dtype).contiguous() for tensor in tensors)
