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
from infra.json_objects import read_object

__all__ = ["WEIGHTS", "prediction_depths", "read_weights"]

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
BLOCK_SCALE = ".weight_scale_inv"
BLOCK = (128, 128)
_COMPUTED = re.compile(r"(.*\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)")
"""What older files keep although it follows from the configuration."""
_PREDICTION = re.compile(r"model\.layers\.(\d+)\.eh_proj\.weight")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All weights by name, as they are stored but for blocks of 8 bits.

    Raises:
        UserError: there are none, a file is missing or cannot be read, or they are quantized in a way not read here.
    """
    block = _block(folder / "config.json")
    weights: dict[str, Tensor] = {}
    for file in _files(folder):
        try:
            weights |= load_file(file)
        except SafetensorError as error:
            raise UserError(f"{file}: not a readable safetensors file ({error}); copy it again") from None
    weights = {name: weight for name, weight in weights.items() if not _COMPUTED.fullmatch(name)}
    if "embed_tokens.weight" in weights:  # of the model without its output layer, where the two are tied
        weights = {name if name.startswith("lm_head.") else f"model.{name}": value for name, value in weights.items()}
    return _worked_out(weights, block, folder)


def prediction_depths(weights: Mapping[str, Tensor], layers: int) -> int:
    """Layers of multi-token prediction that are there behind the model's own, whatever its configuration says:
    who saves such a model without them often leaves it as it was."""
    found = {int(match[1]) for name in weights if (match := _PREDICTION.fullmatch(name))}
    depths = 0
    while layers + depths in found:
        depths += 1
    return depths


def _files(folder: Path) -> list[Path]:
    """As `transformers` chooses: one file, else those that the index names; others may be of another layout."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if index.is_file():
        named = read_object(index).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
            raise UserError(f"{index}: has no weight_map; copy it again")
        files = [folder / Path(name).name for name in sorted(set(named.values()))]
        if missing := [file.name for file in files if not file.is_file()]:
            raise UserError(f"{index}: names {missing[0]}, which is not there; copy the folder again")
        return files
    if files := sorted(folder.glob("*.safetensors")):
        return files
    raise UserError(f"{folder}: no safetensors weights; other formats are not read, convert the checkpoint first")


def _block(config: Path) -> tuple[int, int]:
    """Rows and columns that share a scale."""
    stated = read_object(config).get("quantization_config") if config.is_file() else None
    if stated is None:
        return BLOCK
    method = stated.get("quant_method") if isinstance(stated, dict) else stated
    if method != "fp8":
        raise UserError(f"{config}: its weights are quantized ({method}); take the checkpoint they were made from")
    rows, columns = stated.get("weight_block_size") or BLOCK
    return int(rows), int(columns)


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
