"""The weights of a checkpoint's folder, whoever wrote it: which files they are in, and what of them belongs to a model.

Nothing is ever unpickled. Weights in blocks of 8 bits (DeepSeek-V3, section 3.3) are worked out; those that any other
way has quantized are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from infra.errors import UserError
from model.architecture.weight_files import block_size, our_names, weight_files
from pipeline.sources.signatures import unreadable

__all__ = ["prediction_depths", "read_weights"]

BLOCK_SCALE = ".weight_scale_inv"
_PREDICTION = re.compile(r"model\.layers\.(\d+)\.eh_proj\.weight")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All weights by name, as they are stored but for blocks of 8 bits.

    Raises:
        UserError: there are none, a file is missing or cannot be read, or they are quantized in a way not read here.
    """
    block = block_size(folder / "config.json")
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            weights |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise unreadable(file, error) from None
    weights = {name: weights[stored] for stored, name in our_names(weights).items()}
    return _worked_out(weights, block, folder)


def prediction_depths(weights: Mapping[str, Tensor], layers: int) -> int:
    """Layers of multi-token prediction that are there behind the model's own, whatever its configuration says:
    who saves such a model without them often leaves it as it was."""
    found = {int(match[1]) for name in weights if (match := _PREDICTION.fullmatch(name))}
    depths = 0
    while layers + depths in found:
        depths += 1
    return depths


def _worked_out(weights: dict[str, Tensor], block: tuple[int, int], folder: Path) -> dict[str, Tensor]:
    for name in [name for name in weights if name.endswith(BLOCK_SCALE)]:
        scales, of = weights.pop(name).float(), f"{name.removesuffix(BLOCK_SCALE)}.weight"
        if of not in weights:
            raise UserError(f"{folder}: {name} scales no weight; copy it again")
        weight = weights[of].float()
        spread = scales.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
        if any(extent < wanted for extent, wanted in zip(spread.shape, weight.shape, strict=True)):
            raise UserError(f"{folder}: {name} does not cover its weight in blocks of {block}; copy it again")
        weights[of] = weight * spread[: weight.shape[0], : weight.shape[1]]
    for name, weight in weights.items():
        if weight.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            raise UserError(
                f"{folder}: {name} is stored as {weight.dtype} without scales; take the checkpoint in 16 bits"
            )
    return weights
