"""A checkpoint in one GGUF file: its architecture, and its weights worked out to fp32 whatever their blocks.

llama.cpp's files hold everything that a Hugging Face folder does. Queries and keys of Llama lie there in the order that
llama.cpp rotates, and what it multiplies with lies apart where our modules hold one matrix: both are undone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from infra.errors import UserError
from model.architecture.config import Llama3Scaling, ModelConfig
from model.architecture.gguf_metadata import describe
from model.architecture.gguf_names import FREQUENCIES, PAIRED, ROTATED, unit_name
from model.architecture.gguf_parts import open_gguf, worked_out
from model.architecture.rotary import frequencies

__all__ = ["read_gguf"]


def read_gguf(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The architecture and the fp32 weights, by the names of our modules.

    Raises:
        UserError: it is no GGUF file, or of an architecture that this project does not know.
    """
    parts = open_gguf(path)
    tensors = {tensor.name: tensor for part in parts for tensor in part.tensors}
    config = describe(path, parts)
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        weight = torch.from_numpy(worked_out(path, tensor))
        if name == FREQUENCIES:
            config = _long_context(config, weight, path)
            continue
        unit = unit_name(name)
        if unit is None:
            raise UserError(f"{path}: tensor {name} is none of this project's {config.model_type} models")
        found[unit] = _halves_order(unit, weight, config)
    return config, _joined(found)


def _long_context(config: ModelConfig, factors_r: Tensor, path: Path) -> ModelConfig:
    """The config with Llama 3.1's rotary scaling, if these are its divisors of the frequencies."""
    other = UserError(f"{path}: {FREQUENCIES} is not of Llama 3.1's kind, which alone is known; take the folder")
    if factors_r.shape != frequencies(config).shape or not bool((factors_r >= 1).all()):
        raise other
    factor, usual = float(factors_r.max()), Llama3Scaling()
    kept_r = (1 / factors_r.double() - 1 / factor) / (1 - 1 / factor) if factor > 1 else factors_r.double()
    turns_r = kept_r * (usual.high_freq_factor - usual.low_freq_factor) + usual.low_freq_factor
    between_r = (kept_r > 1e-3) & (kept_r < 1 - 1e-3)  # of which the original context can be told
    originals = (2 * torch.pi * turns_r / frequencies(config).double())[between_r].round().long().tolist()
    for original in (*originals, usual.original_max_position_embeddings):
        scaling = Llama3Scaling(factor=factor, original_max_position_embeddings=original)
        scaled = config.model_copy(update={"rope_scaling": scaling})
        if torch.allclose(frequencies(config) / frequencies(scaled), factors_r, rtol=1e-4):
            return scaled
    raise other


def _halves_order(name: str, weight: Tensor, config: ModelConfig) -> Tensor:
    """Llama's query and key projections and their biases in the order of our rotation, which undoes what files have."""
    if config.model_type not in PAIRED or not ROTATED.search(name):
        return weight
    heads = config.num_attention_heads if ".q_proj." in name else config.key_value_heads
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _joined(units: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our modules from those of `model.release.units`."""
    found = dict(units)
    halves: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name in units:
        prefix, _, projection = name.removesuffix(".weight").rpartition(".")
        if prefix.endswith(".mlp.experts") or projection in ("k_b_proj", "v_b_proj"):
            halves[prefix][projection] = found.pop(name)
    for prefix, parts in halves.items():
        if "k_b_proj" in parts:
            kv_NxC = torch.cat((parts["k_b_proj"].transpose(1, 2), parts["v_b_proj"]), dim=1)
            found[f"{prefix}.kv_b_proj.weight"] = kv_NxC.flatten(0, 1)
        else:
            found[f"{prefix}.gate_up_proj"] = torch.cat((parts["gate_proj"], parts["up_proj"]), dim=1)
            found[f"{prefix}.down_proj"] = parts["down_proj"]
    return found
