"""What calibration keeps of the inputs of matrices: second moments, of the rows it fits and of those it checks on.

Shapes: B matrices (or one whose rows share their inputs), t tokens, R rows (outputs), C columns (inputs).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "Statistics", "stacked", "statistics"]


@dataclass(frozen=True)
class Moments:
    """Of the inputs X [B, t, C] that matrices get, and of those Y that they had in the original; float64 [B, C, C]."""

    own_BCC: Tensor
    """X^T X."""
    cross_BCC: Tensor
    """Y^T X."""
    original_BCC: Tensor
    """Y^T Y."""

    @classmethod
    def of(cls, ours_BtC: Tensor, theirs_BtC: Tensor) -> Moments:
        """Of some tokens."""
        ours, theirs = ours_BtC.double(), theirs_BtC.double()
        across = theirs.transpose(1, 2)
        return cls(ours.transpose(1, 2) @ ours, across @ ours, across @ theirs)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.own_BCC + other.own_BCC, self.cross_BCC + other.cross_BCC, self.original_BCC + other.original_BCC
        )

    def outputs(self, weight_BRC: Tensor) -> Tensor:
        """Squared size [B] of the original's outputs, W Y."""
        return _product(weight_BRC.double(), self.original_BCC, weight_BRC.double())

    def error(self, quantized_BRC: Tensor, weight_BRC: Tensor) -> Tensor:
        """Squared difference [B] of the outputs Q X from the original's W Y."""
        quantized, weight = quantized_BRC.double(), weight_BRC.double()
        mixed = _product(weight, self.cross_BCC, quantized)
        return _product(quantized, self.own_BCC, quantized) - 2 * mixed + self.outputs(weight)


@dataclass(frozen=True)
class Statistics:
    """Of the inputs of matrices."""

    fit: Moments
    """Of the rows that are calibrated on."""
    check: Moments
    """Of those held out."""


def statistics(inputs: Iterable[tuple[Tensor, Tensor, bool]]) -> Statistics:
    """From inputs X and Y [B, t, C] of some rows each, and whether those are held out; without such all are both."""
    sums: dict[bool, Moments] = {}
    for ours_BtC, theirs_BtC, is_held_out in inputs:
        found = Moments.of(ours_BtC, theirs_BtC)
        sums[is_held_out] = sums[is_held_out] + found if is_held_out in sums else found
    return Statistics(sums[False], sums.get(True, sums[False]))


def stacked(each: Sequence[Statistics]) -> Statistics:
    """Those of single matrices, of all of them at once."""

    def join(moments: Sequence[Moments]) -> Moments:
        return Moments(
            torch.cat([found.own_BCC for found in moments]),
            torch.cat([found.cross_BCC for found in moments]),
            torch.cat([found.original_BCC for found in moments]),
        )

    return Statistics(join([found.fit for found in each]), join([found.check for found in each]))


def _product(left_BRC: Tensor, moments_BCC: Tensor, right_BRC: Tensor) -> Tensor:
    return ((left_BRC @ moments_BCC) * right_BRC).sum((-2, -1))
