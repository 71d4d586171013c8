"""The two quantization grids, and their lossless packing into GGUF blocks.

Both are symmetric with one float16 scale per group of 32 weights of a row: `Grid.Q8_0` (codes -127..127) and
`Grid.Q4_0` (codes -8..7). A weight is worth `scale * code` in float32, exactly what llama.cpp computes.

Shape suffixes: R rows, C columns, G groups of a row (C / 32).
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "GROUP",
    "Grid",
    "best_scales",
    "dequantize",
    "encode",
    "nearest",
    "pack",
    "round_to_nearest",
    "scales_of",
    "unpack",
]

GROUP = 32


class Grid(StrEnum):
    """A grid, by the name of the GGUF block type it packs into."""

    Q4_0 = "q4_0"
    Q8_0 = "q8_0"

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest code."""
        return (-8, 7) if self is Grid.Q4_0 else (-127, 127)


def scales_of(weight: Tensor, grid: Grid) -> Tensor:
    """Float16 scales [..., G] of weights [..., C]; for Q4_0 signed, so that the largest weight lands on the code -8, as
    in GGUF.

    Raises:
        ValueError: a row is no whole number of groups.
    """
    if weight.shape[-1] % GROUP:
        raise ValueError(f"{weight.shape[-1]} columns are no multiple of the group size {GROUP}")
    groups = _groups(weight)
    if grid is Grid.Q8_0:
        return (groups.abs().amax(-1) / 127).half()
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)).squeeze(-1)
    return (extreme / -8).half()


SHARES = (*(step / 16 for step in range(9, 19)), *(-step / 16 for step in range(14, 22)))
"""Scales tried for 4 bits, as shares of the one that puts the extreme weight on -8; negative ones put it on 7."""


def best_scales(groups_nC: Tensor, importance_nC: Tensor, grid: Grid) -> Tensor:
    """Float16 scales [n] of the groups [n, 32] with the least error, squared and weighed by `importance`.

    Several scales are tried, and each again as the least squares solution for the codes that it gave. Eight bits are so
    many that the plain scale is as good.
    """
    plain_n = scales_of(groups_nC, grid)[:, 0]
    if grid is Grid.Q8_0:
        return plain_n
    best_n = plain_n.clone()
    least_n = torch.full_like(best_n, float("inf"), dtype=torch.float64)
    for share in SHARES:
        scale_n = (plain_n.double() * share).half()
        for _ in range(2):
            codes_nC = encode(groups_nC, scale_n[:, None], grid).double()
            error_n = (importance_nC * (groups_nC - codes_nC * scale_n.double()[:, None]).square()).sum(-1)
            better_n = error_n < least_n
            least_n, best_n = torch.where(better_n, error_n, least_n), torch.where(better_n, scale_n, best_n)
            weighed_nC = importance_nC * codes_nC
            size_n = (weighed_nC * codes_nC).sum(-1)
            solved_n = (weighed_nC * groups_nC).sum(-1) / size_n
            scale_n = torch.where(size_n > 0, solved_n, scale_n.double()).half()
    return best_n


def encode(weight: Tensor, scale: Tensor, grid: Grid) -> Tensor:
    """Nearest int8 codes of `weight` at the broadcastable `scale`; a zero scale gives code 0."""
    return nearest(weight, scale, grid.limits)


def nearest(weight: Tensor, scale: Tensor, limits: tuple[int, int]) -> Tensor:
    """`encode` with the least and the greatest code given."""
    step = scale.float()
    ratio = torch.where(step == 0, torch.zeros_like(weight), weight / torch.where(step == 0, 1.0, step))
    return ratio.round().clamp(*limits).to(torch.int8)


def round_to_nearest(weight: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Codes [..., C] int8 and scales [..., G] float16 of weights [..., C], without calibration."""
    scales = scales_of(weight, grid)
    return encode(_groups(weight), scales[..., None], grid).flatten(-2), scales


def dequantize(codes: Tensor, scales: Tensor) -> Tensor:
    """The float32 weights [..., C] of codes [..., C] and scales [..., G]."""
    return (_groups(codes) * scales.float()[..., None]).flatten(-2)


def _groups(values: Tensor) -> Tensor:
    """Values [..., C] in float32, [..., G, 32]."""
    return values.float().unflatten(-1, (-1, GROUP))


def pack(codes_RC: Tensor, scales_RG: Tensor, grid: Grid) -> np.ndarray:
    """GGUF bytes [R, G * block size]: a little-endian float16 scale before the codes of each group."""
    rows, groups = scales_RG.shape
    codes = codes_RC.numpy().reshape(rows, groups, GROUP)
    head = scales_RG.numpy().astype("<f2").reshape(rows, groups, 1).view(np.uint8)
    body: np.ndarray
    if grid is Grid.Q8_0:
        body = codes.view(np.uint8)
    else:  # element i is the low half and element i + 16 the high half of byte i, both offset by 8
        nibbles = (codes + 8).astype(np.uint8)
        body = nibbles[..., :16] | (nibbles[..., 16:] << 4)
    return np.concatenate([head, body], axis=-1).reshape(rows, -1)


def unpack(blocks: np.ndarray, grid: Grid) -> tuple[Tensor, Tensor]:
    """The codes and scales that `pack` was given."""
    size = 2 + (GROUP if grid is Grid.Q8_0 else GROUP // 2)
    rows = blocks.shape[0]
    parts = blocks.reshape(rows, -1, size)
    scales = np.ascontiguousarray(parts[..., :2]).view("<f2")[..., 0].copy()
    body = np.ascontiguousarray(parts[..., 2:])
    if grid is Grid.Q8_0:
        codes = body.view(np.int8).copy()
    else:
        codes = np.concatenate([body & 15, body >> 4], axis=-1).astype(np.int8) - 8
    return torch.from_numpy(codes.reshape(rows, -1)), torch.from_numpy(scales)
