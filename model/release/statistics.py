"""What calibration keeps of the inputs of matrices: second moments, of the rows it fits and of those it checks on.

What a matrix adds to the residual stream may make up for what the stream has lost so far. Its inputs in the original
are then followed by that loss, which reaches the outputs as it is: as if the original's matrix were [W, identity].

Shapes: B matrices (or one whose rows share their inputs), t tokens, R rows (outputs), C columns (inputs), Y columns of
the original's inputs: C, or C + R.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "Statistics", "stacked", "statistics"]


@dataclass(frozen=True)
class Moments:
    """Of the inputs X [B, t, C] that matrices get, and of those [B, t, Y] that they had in the original; float64."""

    own_BCC: Tensor
    """X^T X."""
    cross_BYC: Tensor
    """Y^T X."""
    original_BYY: Tensor
    """Y^T Y."""

    @classmethod
    def of(cls, ours_BtC: Tensor, theirs_BtY: Tensor, weight_t: Tensor | None) -> Moments:
        """Of some tokens, each counted by its `weight`, or all alike."""
        ours, theirs = ours_BtC.double(), theirs_BtY.double()
        own, across = ours.transpose(1, 2), theirs.transpose(1, 2)
        if weight_t is not None:
            own, across = own * weight_t, across * weight_t
        return cls(own @ ours, across @ ours, across @ theirs)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.own_BCC + other.own_BCC, self.cross_BYC + other.cross_BYC, self.original_BYY + other.original_BYY
        )

    def outputs(self, weight_BRC: Tensor, moments_RR: Tensor | None = None) -> Tensor:
        """Squared size [B] of the outputs that are wanted; `moments` of the gradients there say how outputs count,
        which count alike where none are given."""
        wanted_BRY = self._wanted(weight_BRC)
        return _product(wanted_BRY, self.original_BYY, wanted_BRY, moments_RR)

    def error(self, quantized_BRC: Tensor, weight_BRC: Tensor, moments_RR: Tensor | None = None) -> Tensor:
        """Squared difference [B] of the quantized weight's outputs from those that are wanted, likewise."""
        quantized = quantized_BRC.double()
        mixed = _product(self._wanted(weight_BRC), self.cross_BYC, quantized, moments_RR)
        square = _product(quantized, self.own_BCC, quantized, moments_RR)
        return square - 2 * mixed + self.outputs(weight_BRC, moments_RR)

    def drift(self, weight_BRC: Tensor) -> Tensor:
        """The outputs that are wanted less those of `weight`, times the inputs X: [B, R, C]."""
        return self._wanted(weight_BRC) @ self.cross_BYC - weight_BRC.double() @ self.own_BCC

    def _wanted(self, weight_BRC: Tensor) -> Tensor:
        """[B, R, Y]: what makes the outputs that are wanted of the original's inputs."""
        weight = weight_BRC.double()
        if self.cross_BYC.shape[1] == weight.shape[2]:
            return weight
        return torch.cat([weight, torch.eye(weight.shape[1], dtype=torch.float64).expand(len(weight), -1, -1)], -1)


@dataclass(frozen=True)
class Statistics:
    """Of the inputs of matrices."""

    fit: Moments
    """Of the rows that are calibrated on."""
    check: Moments
    """Of those held out."""


def statistics(inputs: Iterable[tuple[Tensor, Tensor, Tensor | None, bool]]) -> Statistics:
    """From inputs [B, t, C] and the original's [B, t, Y] of some rows each, what their tokens [t] count where they do
    not alike, and whether they are held out.

    Where none are, all are both.
    """
    sums: dict[bool, Moments] = {}
    for ours_BtC, theirs_BtC, weight_t, is_held_out in inputs:
        found = Moments.of(ours_BtC, theirs_BtC, weight_t)
        sums[is_held_out] = sums[is_held_out] + found if is_held_out in sums else found
    return Statistics(sums[False], sums.get(True, sums[False]))


def stacked(each: Sequence[Statistics]) -> Statistics:
    """Those of single matrices, of all of them at once."""

    def join(moments: Sequence[Moments]) -> Moments:
        return Moments(
            torch.cat([found.own_BCC for found in moments]),
            torch.cat([found.cross_BYC for found in moments]),
            torch.cat([found.original_BYY for found in moments]),
        )

    return Statistics(join([found.fit for found in each]), join([found.check for found in each]))


def _product(left_BRY: Tensor, moments_BYC: Tensor, right_BRC: Tensor, moments_RR: Tensor | None) -> Tensor:
    weighed_BRY = left_BRY if moments_RR is None else moments_RR @ left_BRY
    return ((weighed_BRY @ moments_BYC) * right_BRC).sum((-2, -1))
