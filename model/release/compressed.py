"""A quantized model as a compressed-tensors checkpoint (`pack-quantized`), which vLLM and SGLang load.

The calibrated codes and scales go in as they are: symmetric groups of 32, 4 or 8 bits, eight or four codes in an int32.
Not quantized here: router, norms and head, as everywhere; the embedding, which the format does not know; and the
key-value expansion of latent attention, whose blocks run along another axis than the checkpoint's matrix does. What
is not quantized is stored in 16 bits, as those engines compute.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint import TOKENIZER_FILES, to_hf_names, write_json
from model.config import ModelConfig
from model.release.grid import GROUP, Grid, unpack
from model.release.quantized import KEY, Unit, load_quantized, read_units

__all__ = ["compress", "scheme", "unquantized", "write_compressed", "write_folder"]

BITS = {Grid.Q4_0: 4, Grid.Q8_0: 8}


def write_compressed(quantized: Path, folder: Path) -> None:
    """Write the model of the folder `quantized` to `folder`, ready for an engine.

    Raises:
        UserError: `quantized` is no model of the quantize stage.
    """
    config, stored = read_units(quantized)
    packed = {name: unit for name, unit in stored.items() if unit.grid and _is_linear(name)}
    tensors: dict[str, Tensor] = {}
    grids: dict[str, Grid] = {}
    for name, unit in packed.items():
        for single, part in _matrices(name, unit):
            assert part.grid is not None
            tensors |= compress(single, part)
            grids[single] = part.grid
    whole = load_quantized(quantized)
    for name, weight in to_hf_names(whole.state_dict()).items():
        module = name.removesuffix(".weight")
        if module not in grids and not (name == "lm_head.weight" and config.tie_word_embeddings):
            tensors[name] = unquantized(name, weight)
    settings: dict[str, Any] = json.loads((quantized / "config.json").read_text(encoding="utf-8"))
    settings.pop(KEY)
    write_folder(folder, tensors, settings, scheme(config, "pack-quantized", _groups(grids)), quantized)


def unquantized(name: str, weight: Tensor) -> Tensor:
    """A weight that stays as it is, as these engines compute: 16 bits, but 32 for vectors and the router."""
    keep = weight.dim() < 2 or name.endswith(".mlp.gate.weight")
    return (weight.float() if keep else weight.half()).contiguous().clone()


def write_folder(
    folder: Path, tensors: Mapping[str, Tensor], settings: dict[str, Any], quantization: dict[str, Any], rest: Path
) -> None:
    """Write a checkpoint that says how it is quantized; its tokenizer and generation settings are those of `rest`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", settings | {"torch_dtype": "float16", "quantization_config": quantization})
    for file in ("generation_config.json", *TOKENIZER_FILES):
        if (rest / file).exists():
            shutil.copyfile(rest / file, folder / file)
    save_file(dict(sorted(tensors.items())), folder / "model.safetensors", metadata={"format": "pt"})


def compress(module: str, unit: Unit) -> dict[str, Tensor]:
    """The three tensors of one matrix [R, C]: codes in int32 [R, C x bits / 32], scales [R, C / 32], shape."""
    assert unit.grid is not None
    bits = BITS[unit.grid]
    codes_RC, scales_RG = unpack(unit.stored.numpy(), unit.grid)
    per_word = 32 // bits
    words = (codes_RC.to(torch.int64) + (1 << (bits - 1))).unflatten(-1, (-1, per_word))
    shifts = torch.arange(per_word) * bits
    packed = (words << shifts).sum(-1)  # below 2**32
    packed = torch.where(packed >= 1 << 31, packed - (1 << 32), packed).to(torch.int32)
    shape = torch.tensor(codes_RC.shape, dtype=torch.int64)
    return {
        f"{module}.weight_packed": packed.contiguous(),
        f"{module}.weight_scale": scales_RG.contiguous(),
        f"{module}.weight_shape": shape,
    }


def _is_linear(name: str) -> bool:
    return not name.endswith(("embed_tokens.weight", "lm_head.weight", ".k_b_proj.weight", ".v_b_proj.weight"))


def _matrices(name: str, unit: Unit) -> list[tuple[str, Unit]]:
    """A unit as single matrices by the names of their modules: stacked experts one by one."""
    module = name.removesuffix(".weight")
    if unit.stored.dim() == 2:
        return [(module, unit)]
    prefix, _, projection = module.rpartition(".")
    return [(f"{prefix}.{number}.{projection}", Unit(part, unit.grid)) for number, part in enumerate(unit.stored)]


def _groups(grids: Mapping[str, Grid]) -> dict[str, Any]:
    """``config_groups``: one per number of bits."""
    groups: dict[str, Any] = {}
    for number, grid in enumerate(sorted(set(grids.values()))):
        modules = {re.sub(r"\.\d+\.", r".N.", module) for module, of in grids.items() if of is grid}
        targets = sorted("re:" + re.escape(module).replace(r"\.N\.", r"\.\d+\.") + "$" for module in modules)
        groups[f"group_{number}"] = {
            "targets": targets,
            "input_activations": None,
            "output_activations": None,
            "weights": {
                "num_bits": BITS[grid],
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": GROUP,
                "dynamic": False,
                "actorder": None,
                "block_structure": None,
                "observer": "minmax",
                "observer_kwargs": {},
            },
        }
    return groups


def scheme(config: ModelConfig, layout: str, groups: dict[str, Any]) -> dict[str, Any]:
    """``quantization_config`` in the compressed-tensors format `layout`: its groups, and what is left alone."""
    ignored = ["lm_head", "re:.*mlp\\.gate$"]
    if config.has_latent_attention:
        ignored.append("re:.*kv_b_proj$")
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "global_compression_ratio": None,
        "kv_cache_scheme": None,
        "config_groups": groups,
        "ignore": ignored,
    }
