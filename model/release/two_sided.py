"""Rounds matrices so that errors are made up for along their columns and along their rows.

GPTQ weighs the error E of a matrix by its inputs alone, tr(E H E^T). What an error does to the predictions depends on
the outputs as well: with G, the second moments of the gradients there, the divergence grows by

    tr(G E H E^T),

the second-order term with a Hessian in Kronecker factors (YAQA, Tseng et al. 2025, arXiv 2505.22988, sketch A). As the
inverse of G (x) H has the factor U_G (x) U_H where the inverses have U_G and U_H, the error of the weight (r, c) moves
that of (r', c') by U_G[r, r'] U_H[c, c']: those below and to the right, of columns and rows in their orders. So all
weights on a line from the lower left to the upper right can be rounded at once, and likewise all tiles of weights:
inside of a tile weight by weight, between tiles in products.

Shape suffixes: B matrices, R rows (outputs), C columns (inputs), t tiles, T weights along a side of a tile (32).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from model.architecture.grid import nearest
from model.release.factors import Factors

__all__ = ["round_both"]

TILE = 32


def round_both(
    weight_BRC: Tensor, columns: Factors, rows: Factors, step_BRC: Tensor, limits: tuple[int, int]
) -> Tensor:
    """Codes [B, R, C] int8 within `limits`, each worth its step times the code; C a multiple of 32.

    Args:
        columns: of the moments [B, C, C] of the inputs.
        rows: of the moments [B or 1, R, R] of the gradients at the outputs.
    """
    matrices, height = weight_BRC.shape[:2]
    order_BRC = columns.order_BC[:, None].expand(weight_BRC.shape)
    order_BR1 = rows.order_BC.expand(matrices, -1)[..., None]
    down_BRC = order_BR1.expand(weight_BRC.shape)
    pad = -height % TILE  # rows of zeros, which nothing moves and whose step of 0 has the code 0
    weight, step = (
        F.pad(each.gather(-1, order_BRC).gather(1, down_BRC), (0, 0, 0, pad))
        for each in (weight_BRC.double(), step_BRC)
    )
    rest = torch.eye(height + pad, dtype=torch.float64)[height:]
    upper_BRR = torch.cat([F.pad(rows.upper_BCC, (0, pad)), rest.expand(len(rows.upper_BCC), -1, -1)], 1)
    codes = _round_in_order(weight, columns.upper_BCC, upper_BRR.expand(matrices, -1, -1), step, limits)[:, :height]
    codes = torch.empty_like(codes).scatter_(1, down_BRC, codes)
    return torch.empty_like(codes).scatter_(-1, order_BRC, codes)


def _round_in_order(
    weight_BRC: Tensor, upper_BCC: Tensor, upper_BRR: Tensor, step_BRC: Tensor, limits: tuple[int, int]
) -> Tensor:
    """Codes of matrices whose sides are multiples of 32, tile by tile."""
    codes = torch.empty(weight_BRC.shape, dtype=torch.int8)
    moved_BRC = torch.zeros_like(weight_BRC)  # U_G^T times the errors so far
    for down, across in _lines(weight_BRC.shape[1] // TILE, weight_BRC.shape[2] // TILE):
        place = torch.arange(TILE)
        row_tT, column_tT = (number[:, None] * TILE + place for number in (down, across))
        at = (slice(None), row_tT[:, :, None], column_tT[:, None, :])
        right_BtCT = upper_BCC[:, :, column_tT].transpose(1, 2)
        tile_BtTT = weight_BRC[at] - moved_BRC[:, row_tT] @ right_BtCT
        inner = (
            upper_BRR[:, row_tT[:, :, None], row_tT[:, None, :]],
            upper_BCC[:, column_tT[:, :, None], column_tT[:, None, :]],
        )
        parts = (each.flatten(0, 1) for each in (tile_BtTT, step_BRC[at], *inner))
        code_nTT, error_nTT = _round_tiles(*parts, limits=limits)
        codes[at] = code_nTT.view(tile_BtTT.shape)
        pushed_BtRT = upper_BRR[:, row_tT].transpose(-1, -2) @ error_nTT.view(tile_BtTT.shape)
        moved_BRC[:, :, column_tT] += pushed_BtRT.transpose(1, 2)
    return codes


def _round_tiles(
    weight_nTT: Tensor, step_nTT: Tensor, down_nTT: Tensor, across_nTT: Tensor, *, limits: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Codes of tiles, and their errors as both factors scale them, given the factors' own tiles."""
    codes, errors = torch.empty(weight_nTT.shape, dtype=torch.int8), torch.empty_like(weight_nTT)
    moved_nTT = torch.zeros_like(weight_nTT)  # by column, then by row: the factor of rows times the errors so far
    left_nTT = across_nTT.transpose(1, 2).contiguous()
    scale_nTT = down_nTT.diagonal(dim1=1, dim2=2)[:, :, None] * across_nTT.diagonal(dim1=1, dim2=2)[:, None]
    for row, column in _lines(TILE, TILE):
        last = int(column.max()) + 1
        before_nk = (moved_nTT[:, :last].transpose(1, 2)[:, row] * left_nTT[:, column, :last]).sum(-1)
        current_nk, step_nk = weight_nTT[:, row, column] - before_nk, step_nTT[:, row, column]
        code_nk = nearest(current_nk, step_nk, limits)
        error_nk = (current_nk - code_nk.double() * step_nk.double()) / scale_nTT[:, row, column]
        codes[:, row, column], errors[:, row, column] = code_nk, error_nk
        moved_nTT[:, column] += error_nk[..., None] * down_nTT[:, row]
    return codes, errors


def _lines(rows: int, columns: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Row and column numbers of what lies on each line from the lower left to the upper right."""
    for number in range(rows + columns - 1):
        row = torch.arange(max(0, number - columns + 1), min(rows, number + 1))
        yield row, number - row
