"""Which matrices of the 4-bit model keep more bits: those whose rounding costs most for their size, within a budget.

The cost of a matrix is what it does to the model's predictions when it alone is rounded: the divergence on calibration
rows. Such costs are close to additive, and they lie far apart (the first layer's attention costs a hundred times an
expert of the last), which is why a rule by kind of matrix leaves most of the gain behind. With llama.cpp's K-quants to
choose from, matrices that hardly matter pay for those that do, so that a budget of 4.5 bits has something to choose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from gguf import QK_K
from torch import Tensor

from infra.errors import UserError
from model.architecture.grid import GROUP
from model.architecture.transformer import Transformer
from model.release.divergence import Reference
from model.release.quantized import K_QUANTS, Plan
from model.release.rounding import rounded_to
from model.release.rows import CalibrationBatch
from model.release.units import Role, role_of, units
from model.sections import Precision

__all__ = ["allocate", "bits_of", "chosen_within", "costs"]

BITS: dict[Precision, float] = {
    Precision.Q2_K: 2 + 5 / 8,
    Precision.Q3_K: 3 + 7 / 16,
    Precision.Q4_K: 4.5,
    Precision.Q4_0: 4 + 16 / GROUP,
    Precision.Q6_K: 6 + 9 / 16,
    Precision.Q8_0: 8 + 16 / GROUP,
    Precision.F16: 16,
}
"""Per weight, with the scales."""
CALIBRATED = 0.3
"""What calibration leaves of the divergence that rounding to few bits costs (measured: 0.27). With more it changes
little."""
CHOICES = (Precision.Q2_K, Precision.Q3_K, Precision.Q4_0, Precision.Q6_K, Precision.Q8_0)


@torch.no_grad()
def costs(model: Transformer, batches: Sequence[CalibrationBatch], names: Sequence[str]) -> dict[str, float]:
    """Divergence (nats per token) of `model` with one matrix rounded to 4 bits, for each of `names`."""
    reference, views = Reference(model, batches), units(model)
    found = {}
    for name in names:
        kept: Tensor = views[name].clone()
        views[name].copy_(rounded_to(kept, Precision.Q4_0).weight())
        found[name] = reference.compare(model).kl
        views[name].copy_(kept)
    return found


def allocate(
    model: Transformer,
    plan: Plan,
    budget: float,
    batches: Sequence[CalibrationBatch],
    *,
    k_quants: bool = False,
) -> dict[str, float]:
    """Raise matrices of `plan` from 4 to 8 bits while all of them stay within `budget`.

    Args:
        plan: changed in place.
        budget: bits per weight, over the quantized matrices, embedding and output layer among them.
        k_quants: the 4-bit matrices may also get 2.6, 3.4 and 6.6 bits, where their rows divide into such blocks.

    Returns:
        What each candidate costs at 4 bits (`costs`).

    Raises:
        UserError: even at their fewest bits the matrices take more than `budget`.
    """
    weights = {name: weight.numel() for name, weight in units(model).items() if plan[name] in CHOICES}
    left = budget * sum(weights.values()) - sum(_bits(plan[name]) * count for name, count in weights.items())
    free = [name for name in weights if plan[name] is Precision.Q4_0]
    _refuse_too_few(model, plan, budget, free if k_quants else [])
    found = costs(model, batches, free)
    if k_quants:
        by_precision = {precision: _costs_at(model, found, precision) for precision in CHOICES}
        left += sum(BITS[Precision.Q4_0] * weights[name] for name in free)
        plan |= chosen_within({name: weights[name] for name in free}, by_precision, left)
        return found
    step = BITS[Precision.Q8_0] - BITS[Precision.Q4_0]
    for name in sorted(found, key=lambda name: (-found[name] / weights[name], name)):
        if step * weights[name] <= left:
            plan[name] = Precision.Q8_0
            left -= step * weights[name]
    return found


def _refuse_too_few(model: Transformer, plan: Plan, budget: float, free: Sequence[str]) -> None:
    """UserError where no choice of K-quants for the matrices of `free` keeps all of them within `budget`."""
    weights = {name: weight for name, weight in units(model).items() if plan[name] in CHOICES}
    fewest = {name: _bits(plan[name]) for name in weights}
    fewest |= {name: BITS[Precision.Q2_K] for name in free if weights[name].shape[-1] % QK_K == 0}
    least = sum(fewest[name] * weight.numel() for name, weight in weights.items())
    least /= max(1, sum(weight.numel() for weight in weights.values()))
    if budget >= least - 1e-6:
        return
    short = sorted({weights[name].shape[-1] for name in free if weights[name].shape[-1] % QK_K})
    widths = ", ".join(map(str, short))
    why = f"rows of {widths} weights do not divide into K-quants' blocks of {QK_K} and take 4.5" if short else ""
    why = why or ("q2_k has no fewer" if free else "set quantize.k_quants to true, which has 2.6 and 3.4 bits as well")
    raise UserError(f"quantize.bits {budget:g}: the matrices take {least:.2f} bits per weight at least: {why}")


def _costs_at(model: Transformer, at_four: Mapping[str, float], precision: Precision) -> dict[str, float]:
    """What matrices would cost at a precision that their rows fit: the divergence goes by the square of the error."""
    share = CALIBRATED if BITS[precision] < BITS[Precision.Q6_K] else 1.0
    found = {}
    for name, cost in at_four.items():
        weight = units(model)[name]
        if precision not in K_QUANTS or weight.shape[-1] % QK_K == 0:
            errors = (
                float((rounded_to(weight, each).weight() - weight).double().square().sum())
                for each in (precision, Precision.Q4_0)
            )
            ours, fours = errors
            found[name] = share * cost * ours / fours if fours else 0.0
    return found


def bits_of(model: Transformer, plan: Plan) -> float:
    """Bits per weight of a plan's matrices, those in 16 bits among them, without embedding and output layer.

    Raises:
        ValueError: it has none.
    """
    weights = {
        name: weight.numel()
        for name, weight in units(model).items()
        if plan[name] is not None and role_of(name, weight) is not Role.EMBEDDINGS
    }
    if not weights:
        raise ValueError("a plan without any matrix that is quantized")
    return sum(_bits(plan[name]) * count for name, count in weights.items()) / sum(weights.values())


def _bits(precision: Precision | None) -> float:
    assert precision is not None
    return BITS[precision]


def chosen_within(
    weights: Mapping[str, int], by_precision: Mapping[Precision, Mapping[str, float]], budget: float
) -> dict[str, Precision]:
    """The precisions of least cost in all whose bits stay within `budget`: the steepest steps of each matrix first.

    From its least bits a matrix goes up along the lower convex hull of its costs, whose steps are ever less steep.
    """
    chosen, steps = {}, []
    for name, count in weights.items():
        choices = [precision for precision in CHOICES if name in by_precision.get(precision, {})]
        at, number = choices[0], 0
        chosen[name], budget = at, budget - BITS[at] * count
        while above := [precision for precision in choices if BITS[precision] > BITS[at]]:
            gains = {
                precision: (by_precision[at][name] - by_precision[precision][name])
                / ((BITS[precision] - BITS[at]) * count)
                for precision in above
            }
            to = max(above, key=lambda precision: gains[precision])
            if gains[to] <= 0:
                break
            steps.append((-gains[to], name, number, at, to))
            at, number = to, number + 1
    stuck = set()
    for _, name, _, at, to in sorted(steps):
        price = (BITS[to] - BITS[at]) * weights[name]
        if name in stuck or price > budget:
            stuck.add(name)
            continue
        chosen[name], budget = to, budget - price
    return chosen
