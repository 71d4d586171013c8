"""GPTQ (Frantar et al. 2022, algorithm 1): round a weight column by column, moving each error onto the columns not yet
rounded, as the Hessian H = X^T X of the layer's inputs weighs it. Float64 throughout: small layers, reproducible codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.release.grid import GROUP, Grid, encode, scales_of

__all__ = ["gptq"]


def gptq(weight_RC: Tensor, hessian_CC: Tensor, grid: Grid, *, damping: float = 0.01) -> tuple[Tensor, Tensor]:
    """Codes [R, C] int8 and scales [R, G] float16 for inputs of Hessian [C, C].

    `damping` is the share of the mean diagonal added to the diagonal. A group's scales are taken from its weights as
    they stand when the group is reached. An all-zero Hessian (no tokens seen) is plain rounding to nearest.
    """
    weight = weight_RC.double().clone()
    columns = weight.shape[1]
    hessian = hessian_CC.double().clone()
    mean = float(hessian.diagonal().mean())
    hessian.diagonal().add_(damping * mean if mean > 0 else 1.0)
    # Row c of the upper factor is the row of the inverse over columns c.. once the earlier ones are eliminated, scaled.
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True)
    codes = torch.empty(weight.shape, dtype=torch.int8)
    scales = torch.empty(weight.shape[0], columns // GROUP, dtype=torch.float16)
    for column in range(columns):
        group = column // GROUP
        if column % GROUP == 0:
            scales[:, group] = scales_of(weight[:, column : column + GROUP], grid)[:, 0]
        current = weight[:, column]
        codes[:, column] = encode(current, scales[:, group], grid)
        error = (current - codes[:, column].double() * scales[:, group].double()) / upper[column, column]
        weight[:, column:] -= error[:, None] * upper[column, column:]
    return codes, scales
