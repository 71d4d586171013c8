"""GPTQ (Frantar et al. 2022, algorithm 1): round a weight column by column, moving each error onto the columns not yet
rounded, as the Hessian H = X^T X of the layer's inputs weighs it. Float64 throughout: small layers, reproducible codes.

Several matrices of one shape (the experts of a layer) go at once. Errors reach the columns of the same group at once
and the rest after each group, in one product: the same sums in another order.

Shape suffixes: B matrices, R rows (outputs), C columns (inputs), G groups of a row (C / 32).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.release.grid import GROUP, Grid, best_scales, encode

__all__ = ["factor", "gptq", "round_columns"]

RETRIES = 4
"""Times that the damping is raised tenfold before a matrix is rounded to nearest."""


def gptq(weight_RC: Tensor, hessian_CC: Tensor, grid: Grid, *, damping: float = 0.01) -> tuple[Tensor, Tensor]:
    """Codes [R, C] int8 and scales [R, G] float16 for inputs of Hessian [C, C].

    `damping` is the share of the mean diagonal added to the diagonal. A group's scales are chosen for its weights as
    they stand when the group is reached, each weighed by what an error in it costs that later columns cannot mend
    (1 / U_cc^2; Frantar et al. take the plain range). An all-zero Hessian (no tokens seen) is rounding to nearest,
    at the scales with the least squared error.
    """
    upper_1CC, _ = factor(hessian_CC[None], damping)
    codes_1RC, scales_1RG = round_columns(weight_RC[None], upper_1CC, grid)
    return codes_1RC[0], scales_1RG[0]


def factor(hessian_BCC: Tensor, damping: float = 0.01) -> tuple[Tensor, list[float | None]]:
    """Upper factors U [B, C, C] of the inverse damped Hessians (H^-1 = U^T U), and the damping that each one needed.

    Row c of U is the row of the inverse over the columns from c on once the earlier ones are eliminated, scaled: all
    that the algorithm needs. A Hessian of too low a rank is tried again with ten times the damping; one that is zero,
    not finite or still no good gives the identity (rounding to nearest) and None.
    """
    columns = hessian_BCC.shape[-1]
    identity = torch.eye(columns, dtype=torch.float64)
    upper_BCC = identity.repeat(len(hessian_BCC), 1, 1)
    used: list[float | None] = [None] * len(hessian_BCC)
    mean_B = hessian_BCC.double().diagonal(dim1=-2, dim2=-1).mean(-1)
    finite_B = hessian_BCC.isfinite().all(-1).all(-1)
    pending = [place for place in range(len(used)) if bool(finite_B[place]) and float(mean_B[place]) > 0]
    for attempt in range(RETRIES + 1):
        if not pending:
            break
        share = damping * 10**attempt
        damped = hessian_BCC[pending].double()  # indexing by a list copies
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
        pending = [place for place, is_good in zip(pending, good.tolist(), strict=True) if not is_good]
    return upper_BCC, used


def round_columns(weight_BRC: Tensor, upper_BCC: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Codes [B, R, C] int8 and scales [B, R, G] float16, given the factors of `factor`."""
    weight = weight_BRC.double().clone()
    batch, rows, columns = weight.shape
    codes = torch.empty(weight.shape, dtype=torch.int8)
    scales = torch.empty(batch, rows, columns // GROUP, dtype=torch.float16)
    for start in range(0, columns, GROUP):
        end, group = start + GROUP, start // GROUP
        block = weight[..., start:end].clone()
        cost_BC = upper_BCC.diagonal(dim1=-2, dim2=-1)[:, start:end] ** -2
        cost_nC = cost_BC[:, None].expand(batch, rows, GROUP).flatten(0, 1)
        scales[..., group] = best_scales(block.flatten(0, 1), cost_nC, grid).view(batch, rows)
        step_BR = scales[..., group]
        errors = torch.empty_like(block)
        for place in range(GROUP):
            column = start + place
            current_BR = block[..., place]
            codes[..., column] = encode(current_BR, step_BR, grid)
            rounded_BR = codes[..., column].double() * step_BR.double()
            errors[..., place] = (current_BR - rounded_BR) / upper_BCC[:, None, column, column]
            block[..., place:] -= errors[..., place, None] * upper_BCC[:, None, column, column:end]
        weight[..., end:] -= errors @ upper_BCC[:, start:end, end:]
    return codes, scales
