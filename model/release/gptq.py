"""GPTQ (Frantar et al. 2022, algorithm 1): round a weight column by column, moving each error onto the columns not yet
rounded, as the Hessian H = X^T X of the layer's inputs weighs it. Float64 throughout: small layers, reproducible codes.

Columns go by the size of their inputs, largest first ("act order"), so that the most are left to make up for the errors
that cost most. Groups stay where they are: their scales are chosen beforehand, each weight counting by its inputs.

Inputs drift as layers before are quantized: `toward` first moves a weight so that it makes, of the inputs that are,
what the original made of those that were (the objective of GPTAQ, Li et al. 2025, arXiv 2504.02692; here in closed
form, as ridge regression, before any rounding).

Where the outputs are known that matter (`model.release.outputs`), errors are made up for along the rows as well
(`model.release.two_sided`).

Several matrices of one shape (the experts of a layer) go at once. Errors reach the columns of the same block at once
and the rest after each block, in one product: the same sums in another order.

Shape suffixes: B matrices, R rows (outputs), C columns (inputs), G groups of a row (C / 32).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.architecture.grid import GROUP, Grid, best_scales, nearest
from model.release.factors import Factors
from model.release.two_sided import round_both

__all__ = ["round_columns", "round_to", "toward"]

RIDGE = 0.1
"""Share of the mean diagonal that holds `toward` near the weight as it is."""


def toward(weight_BRC: Tensor, hessian_BCC: Tensor, drift_BRC: Tensor) -> Tensor:
    """Weights, in float64, that make up for what the outputs of `weight` lack on their inputs X.

    W' = W + D (H + ridge)^-1; where H or D is of no use, W.

    Args:
        hessian_BCC: H = X^T X.
        drift_BRC: D, what the outputs lack times X: for the original's inputs Y, W (Y^T X - H).
    """
    weight = weight_BRC.double()
    mean_B = hessian_BCC.diagonal(dim1=-2, dim2=-1).mean(-1)
    is_finite_B = hessian_BCC.isfinite().all(-1).all(-1) & drift_BRC.isfinite().all(-1).all(-1)
    is_usable_B11 = (is_finite_B & (mean_B > 0))[:, None, None]
    identity = torch.eye(hessian_BCC.shape[-1], dtype=torch.float64)
    ridged = torch.where(is_usable_B11, hessian_BCC + RIDGE * mean_B[:, None, None] * identity, identity)
    drift = torch.where(is_usable_B11, drift_BRC, torch.zeros_like(weight))
    return weight + torch.cholesky_solve(drift.transpose(1, 2), torch.linalg.cholesky(ridged)).transpose(1, 2)


def round_columns(
    weight_BRC: Tensor, factors: Factors, grid: Grid, outputs: Factors | None = None
) -> tuple[Tensor, Tensor]:
    """Codes [B, R, C] int8 and scales [B, R, G] float16; `outputs` as in `round_to`."""
    scales = _scales(weight_BRC.double(), factors.importance_BC, grid)
    return round_to(weight_BRC, factors, scales.repeat_interleave(GROUP, -1), None, grid.limits, outputs), scales


def round_to(
    weight_BRC: Tensor,
    factors: Factors,
    step_BRC: Tensor,
    offset_BRC: Tensor | None,
    limits: tuple[int, int],
    outputs: Factors | None = None,
) -> Tensor:
    """Codes [B, R, C] int8 within `limits`, each worth its step times the code and its offset.

    Args:
        outputs: of the moments [B or 1, R, R] of the gradients at the outputs, where errors are made up for along the
            rows as well.
    """
    plain_BRC = weight_BRC.double() - (0.0 if offset_BRC is None else offset_BRC.double())
    if outputs is not None:
        return round_both(plain_BRC, factors, outputs, step_BRC, limits)
    order_BRC = factors.order_BC[:, None].expand(weight_BRC.shape)
    steps, upper_BCC = step_BRC.gather(-1, order_BRC), factors.upper_BCC
    weight = plain_BRC.gather(-1, order_BRC)
    ordered = torch.empty(weight.shape, dtype=torch.int8)
    for start in range(0, weight.shape[-1], GROUP):
        end = start + GROUP
        block = weight[..., start:end].clone()
        errors = torch.empty_like(block)
        for place in range(GROUP):
            column = start + place
            current_BR, step_BR = block[..., place], steps[..., column]
            ordered[..., column] = nearest(current_BR, step_BR, limits)
            rounded_BR = ordered[..., column].double() * step_BR.double()
            errors[..., place] = (current_BR - rounded_BR) / upper_BCC[:, None, column, column]
            block[..., place:] -= errors[..., place, None] * upper_BCC[:, None, column, column:end]
        weight[..., end:] -= errors @ upper_BCC[:, start:end, end:]
    return torch.empty_like(ordered).scatter_(-1, order_BRC, ordered)


def _scales(weight: Tensor, importance_BC: Tensor, grid: Grid) -> Tensor:
    """The best scales [B, R, G] of all groups."""
    groups = weight.unflatten(-1, (-1, GROUP))
    importance = importance_BC.unflatten(-1, (-1, GROUP))[:, None].expand(groups.shape)
    return best_scales(groups.flatten(0, 2), importance.flatten(0, 2), grid).view(groups.shape[:-1])
