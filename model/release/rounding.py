"""A weight at a precision: rounded to nearest, or with the codes that GPTQ chooses.

Shapes: B matrices, R rows (outputs), C columns (inputs).
"""

from __future__ import annotations

from dataclasses import replace

from gguf import GGMLQuantizationType
from torch import Tensor

from model.architecture.grid import Grid
from model.architecture.transformer import Transformer
from model.release.factors import Factors
from model.release.gptq import round_columns, round_to
from model.release.kcodes import LIMITS, grid_of, with_codes
from model.release.kquants import k_quantize
from model.release.quantized import K_QUANTS, Plan, Unit, plain_unit, rounded_unit
from model.release.units import units
from model.sections import Precision

__all__ = ["calibrated_to", "rounded", "rounded_to"]


def rounded(model: Transformer, plan: Plan) -> dict[str, Unit]:
    """All units at the precisions of `plan`, without calibration."""
    return {name: rounded_to(weight, plan[name]) for name, weight in units(model).items()}


def rounded_to(weight: Tensor, precision: Precision | None) -> Unit:
    """A weight at a precision, without calibration."""
    if precision is None or precision is Precision.F16:
        return plain_unit(weight, precision)
    if precision in K_QUANTS:
        return k_quantize(weight, GGMLQuantizationType[precision.name])
    return rounded_unit(weight, Grid(precision))


def calibrated_to(weight_BRC: Tensor, factors: Factors, precision: Precision, outputs: Factors | None = None) -> Unit:
    """The codes of matrices by GPTQ, along the rows too where the `outputs` that matter are known; of K-quants in the
    scales that llama.cpp chooses, with six bits as it rounds."""
    if precision not in K_QUANTS:
        grid = Grid(precision)
        return Unit.packed(*round_columns(weight_BRC, factors, grid, outputs), grid)
    kind = GGMLQuantizationType[precision.name]
    unit = k_quantize(weight_BRC, kind)
    if kind not in LIMITS:
        return unit
    codes = round_to(weight_BRC, factors, *grid_of(unit.stored, kind), LIMITS[kind], outputs)
    return replace(unit, stored=with_codes(unit.stored, codes, kind))
