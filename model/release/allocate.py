"""Which matrices of the 4-bit model keep 8 bits: those whose rounding costs most for their size, within a budget.

The cost of a matrix is what it does to the model's predictions when it alone is rounded to 4 bits: the divergence on
calibration rows. Such costs are close to additive, and they lie far apart (the first layer's attention costs a hundred
times an expert of the last), which is why a rule by kind of matrix leaves most of the gain behind.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.release.calibrate import CalibrationBatch
from model.release.divergence import Reference
from model.release.grid import GROUP, Grid
from model.release.quantized import Plan, rounded_unit
from model.release.units import Role, role_of, units
from model.sections import Precision
from model.transformer import Transformer

__all__ = ["allocate", "costs"]

BITS: dict[Precision | None, float] = {Precision.Q4_0: 4 + 16 / GROUP, Precision.Q8_0: 8 + 16 / GROUP}
"""Per weight, with the scales."""


@torch.no_grad()
def costs(model: Transformer, batches: Sequence[CalibrationBatch], names: Sequence[str]) -> dict[str, float]:
    """Divergence (nats per token) of `model` with one matrix rounded to 4 bits, for each of `names`."""
    reference, views = Reference(model, batches), units(model)
    found = {}
    for name in names:
        kept: Tensor = views[name].clone()
        views[name].copy_(rounded_unit(kept, Grid.Q4_0).weight())
        found[name] = reference.compare(model).kl
        views[name].copy_(kept)
    return found


def allocate(model: Transformer, plan: Plan, budget: float, batches: Sequence[CalibrationBatch]) -> dict[str, float]:
    """Raise matrices of `plan` from 4 to 8 bits while all of them but the embeddings stay within `budget`.

    Args:
        plan: changed in place.
        budget: bits per weight, over the quantized matrices without embedding and output layer.

    Returns:
        What each candidate costs at 4 bits (`costs`).
    """
    weights = {
        name: weight.numel()
        for name, weight in units(model).items()
        if plan[name] in BITS and role_of(name, weight) is not Role.EMBEDDINGS
    }
    left = budget * sum(weights.values()) - sum(BITS[plan[name]] * count for name, count in weights.items())
    found = costs(model, batches, [name for name in weights if plan[name] is Precision.Q4_0])
    step = BITS[Precision.Q8_0] - BITS[Precision.Q4_0]
    for name in sorted(found, key=lambda name: (-found[name] / weights[name], name)):
        if step * weights[name] <= left:
            plan[name] = Precision.Q8_0
            left -= step * weights[name]
    return found
