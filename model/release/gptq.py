"""GPTQ (Frantar et al. 2022, algorithm 1): round a weight column by column, moving each error onto the columns not yet
rounded, as the Hessian H = X^T X of the layer's inputs weighs it. Float64 throughout: small layers, reproducible codes.

Columns go by the size of their inputs, largest first ("act order"), so that the most are left to make up for the errors
that cost most. Groups stay where they are: their scales are chosen beforehand, each weight counting by its inputs.

Inputs drift as layers before are quantized: `toward` first moves a weight so that it makes, of the inputs that are,
what the original made of those that were (the objective of GPTAQ, Li et al. 2025, arXiv 2504.02692; here in closed
form, as ridge regression, before any rounding).

Several matrices of one shape (the experts of a layer) go at once. Errors reach the columns of the same block at once
and the rest after each block, in one product: the same sums in another order.

Shape suffixes: B matrices, R rows (outputs), C columns (inputs), G groups of a row (C / 32).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.release.grid import GROUP, Grid, best_scales, nearest

__all__ = ["Factors", "factor", "gptq", "round_columns", "round_to", "toward"]

RETRIES = 4
"""Times that the damping is raised tenfold before a matrix is rounded to nearest."""
RIDGE = 0.1
"""Share of the mean diagonal that holds `toward` near the weight as it is."""


@dataclass(frozen=True)
class Factors:
    """What rounding needs to know of B Hessians."""

    order_BC: Tensor
    """Columns, those with the largest inputs first."""
    upper_BCC: Tensor
    """Of the inverse damped Hessians in that order: H^-1 = U^T U."""
    importance_BC: Tensor
    """Diagonals of the damped Hessians, in the order of the weight's columns; ones where a Hessian was of no use."""
    damping: list[float | None]
    """That each one needed; None where it was of no use."""


def gptq(weight_RC: Tensor, hessian_CC: Tensor, grid: Grid, *, damping: float = 0.01) -> tuple[Tensor, Tensor]:
    """Codes [R, C] int8 and scales [R, G] float16 for inputs of Hessian [C, C].

    `damping` is the share of the mean diagonal added to the diagonal. An all-zero Hessian (no tokens seen) is rounding
    to nearest, at the scales with the least squared error.
    """
    codes_1RC, scales_1RG = round_columns(weight_RC[None], factor(hessian_CC[None], damping), grid)
    return codes_1RC[0], scales_1RG[0]


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


def factor(hessian_BCC: Tensor, damping: float = 0.01) -> Factors:
    """Order the columns of Hessians [B, C, C] and factor their inverses.

    Row c of U is the row of the inverse over the columns from c on once the earlier ones are eliminated, scaled: all
    that the algorithm needs. A Hessian of too low a rank is tried again with ten times the damping; one that is zero,
    not finite or still no good gives the identity (rounding to nearest).
    """
    columns = hessian_BCC.shape[-1]
    sizes_BC = hessian_BCC.diagonal(dim1=-2, dim2=-1)
    order_BC = sizes_BC.argsort(dim=-1, descending=True, stable=True)
    ordered_BCC = hessian_BCC.double().gather(1, order_BC[..., None].expand_as(hessian_BCC))
    ordered_BCC = ordered_BCC.gather(2, order_BC[:, None].expand_as(hessian_BCC))
    identity = torch.eye(columns, dtype=torch.float64)
    upper_BCC = identity.repeat(len(hessian_BCC), 1, 1)
    importance_BC = torch.ones(len(hessian_BCC), columns, dtype=torch.float64)
    used: list[float | None] = [None] * len(hessian_BCC)
    mean_B = sizes_BC.double().mean(-1)
    finite_B = hessian_BCC.isfinite().all(-1).all(-1)
    pending = [place for place in range(len(used)) if bool(finite_B[place]) and float(mean_B[place]) > 0]
    for attempt in range(RETRIES + 1):
        if not pending:
            break
        share = damping * 10**attempt
        damped = ordered_BCC[pending]  # indexing by a list copies
        damped.diagonal(dim1=-2, dim2=-1).add_((share * mean_B[pending])[:, None])
        # H = M M^T with M upper is a Cholesky factor of H turned over both ways, and U is its inverse: nothing is
        # inverted but a triangle
        lower, failed = torch.linalg.cholesky_ex(damped.flip(-1, -2))
        # a failed factor is no number: keep the batch going with the identity in its place
        lower[failed != 0] = identity
        upper = torch.linalg.solve_triangular(lower.flip(-1, -2), identity, upper=True)
        good = (failed == 0) & upper.isfinite().all(-1).all(-1)
        for place, is_good, matrix in zip(pending, good.tolist(), upper, strict=True):
            if is_good:
                upper_BCC[place], used[place] = matrix, share
                importance_BC[place] = sizes_BC[place].double() + share * mean_B[place]
        pending = [place for place, is_good in zip(pending, good.tolist(), strict=True) if not is_good]
    return Factors(order_BC, upper_BCC, importance_BC, used)


def round_columns(weight_BRC: Tensor, factors: Factors, grid: Grid) -> tuple[Tensor, Tensor]:
    """Codes [B, R, C] int8 and scales [B, R, G] float16."""
    scales = _scales(weight_BRC.double(), factors.importance_BC, grid)
    return round_to(weight_BRC, factors, scales.repeat_interleave(GROUP, -1), None, grid.limits), scales


def round_to(
    weight_BRC: Tensor, factors: Factors, step_BRC: Tensor, offset_BRC: Tensor | None, limits: tuple[int, int]
) -> Tensor:
    """Codes [B, R, C] int8 within `limits`, each worth its step times the code and its offset."""
    order_BRC = factors.order_BC[:, None].expand(weight_BRC.shape)
    steps, upper_BCC = step_BRC.gather(-1, order_BRC), factors.upper_BCC
    weight = (weight_BRC.double() - (0.0 if offset_BRC is None else offset_BRC.double())).gather(-1, order_BRC)
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
