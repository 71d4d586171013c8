"""What rounding needs to know of second moments: their columns in order, and the inverse in factors.

Shape suffixes: B matrices, C columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Factors", "factor"]

RETRIES = 4
"""Times that the damping is raised tenfold before a matrix is rounded to nearest."""


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
