"""A quantized model as a compressed-tensors checkpoint (`pack-quantized`), which vLLM and SGLang load.

The calibrated codes and scales go in as they are: symmetric groups of 32, 4 or 8 bits, eight or four codes in an int32.
Not quantized here: router, norms and head, as everywhere; the embedding, which the format does not know; and the
key-value expansion of latent attention, whose blocks run along another axis than the checkpoint's matrix does. What
is not quantized is stored in 16 bits, as those engines compute. Matrices that they compute as one layer have the bits
of the widest (`model.release.fused`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from infra.errors import UserError
from infra.json_objects import JsonObject, read_object
from model.architecture.checkpoint import (
    GENERATION,
    from_hf_names,
    load_config,
    to_hf_names,
    write_json,
)
from model.architecture.config import Family, ModelConfig
from model.architecture.grid import GROUP, Grid, unpack
from model.architecture.transformer import Transformer
from model.release.fused import shared_bits, widened
from model.release.quantized import KEY, Plan, Unit, load_quantized, read_units
from model.release.units import units
from model.sections import Precision
from pipeline.tokens.files import copy_tokenizer

__all__ = [
    "compress",
    "groups",
    "linear_bits",
    "load_compressed",
    "scheme",
    "unknown",
    "unquantized",
    "whole_modules",
    "write_compressed",
    "write_folder",
]

BITS = {Grid.Q4_0: 4, Grid.Q8_0: 8}
GRIDS = {bits: grid for grid, bits in BITS.items()}
NEAREST: dict[Precision | None, int] = {
    **dict.fromkeys((Precision.Q2_K, Precision.Q3_K, Precision.Q4_K, Precision.Q4_0), 4),
    **dict.fromkeys((Precision.Q6_K, Precision.Q8_0), 8),
}
"""Bits of this format that stand for each precision, where another tool quantizes."""
_NUMBER = re.compile(r"\.\d+\.")
_EXPERT_NUMBER = re.compile(r"(?<=\.experts)\.\d+\.")


def unknown(quantized: Path) -> str | None:
    """Why the model of a folder does not go into this format, or None when it does."""
    kinds = sorted({unit.precision for unit in read_units(quantized)[1].values() if unit.kind})
    return f"compressed-tensors knows no {' and '.join(kinds)}, which only llama.cpp reads" if kinds else None


def write_compressed(quantized: Path, folder: Path) -> None:
    """Write the model of the folder `quantized` to `folder`, ready for an engine.

    Raises:
        UserError: `quantized` is no model of the quantize stage.
    """
    config, stored = read_units(quantized)
    matrices = {name: unit for name, unit in stored.items() if _may_quantize(name, unit.stored)}
    first = config.model_type is Family.DEEPSEEK
    own = {name: BITS[unit.grid] if unit.grid else 0 for name, unit in matrices.items()}
    shared = shared_bits(own, one_attention=first)
    nameless = next(each for name, each in shared.items() if ".self_attn." in name) if first else 0
    tensors: dict[str, Tensor] = {}
    bits: dict[str, int] = {}
    for name, each in shared.items():
        unit = widened(stored[name], GRIDS[each]) if each else stored[name]
        for module, part in _parts(name, unit):
            bits[module] = each
            if each:
                tensors |= compress(module, part)
    whole = load_quantized(quantized)
    for name, weight in to_hf_names(whole.state_dict()).items():
        if not bits.get(name.removesuffix(".weight")) and not (name == "lm_head.weight" and config.tie_word_embeddings):
            tensors[name] = unquantized(name, weight)
    settings = read_object(quantized / "config.json")
    settings.pop(KEY)
    found = scheme(config, "pack-quantized", groups(bits, nameless), whole_modules(bits))
    write_folder(folder, tensors, settings, found, quantized)


def linear_bits(model: Transformer, plan: Plan) -> dict[str, int]:
    """Bits of a plan in this format, by module, experts one by one; 0 where one stays whole."""
    weights = {name: weight for name, weight in units(model).items() if _may_quantize(name, weight)}
    shared = shared_bits({name: NEAREST.get(plan[name], 0) for name in weights})
    return {
        module: each
        for name, each in shared.items()
        for module in _modules(name, len(weights[name]) if weights[name].dim() > 2 else None)
    }


def load_compressed(folder: Path) -> Transformer:
    """The model of such a checkpoint, ours or another tool's, with its weights worked out in fp32.

    Raises:
        UserError: weights are missing, damaged, or coded otherwise (asymmetric, reordered).
    """
    config = load_config(folder)
    try:
        stored = load_file(folder / "model.safetensors")
    except (SafetensorError, FileNotFoundError) as error:
        raise UserError(f"{folder / 'model.safetensors'}: not readable ({error}); make it again") from None
    model = Transformer(config)
    weights: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight_packed":
            shape, scale = stored[f"{module}.weight_shape"].tolist(), stored[f"{module}.weight_scale"]
            weights[f"{module}.weight"] = _unpacked(tensor, scale, *shape)
        elif kind not in ("weight_scale", "weight_shape"):
            weights[name] = tensor.float()
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    try:
        model.load_state_dict(from_hf_names(weights))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{folder}: its weights are not those of config.json ({reason})") from None
    return model.requires_grad_(False).eval()


def _unpacked(words_RW: Tensor, scales_RG: Tensor, rows: int, columns: int) -> Tensor:
    """Weights [R, C] from codes in int32, as many to a word as have room."""
    per_word = -(-columns // words_RW.shape[1])
    bits = 32 // per_word
    shifts = torch.arange(per_word) * bits
    codes = (words_RW.to(torch.int64)[..., None] >> shifts) & ((1 << bits) - 1)
    codes_RC = codes.flatten(-2)[:rows, :columns] - (1 << (bits - 1))
    return codes_RC.float() * scales_RG.float().repeat_interleave(columns // scales_RG.shape[1], 1)


def unquantized(name: str, weight: Tensor) -> Tensor:
    """A weight that stays as it is, as these engines compute: 16 bits, but 32 for vectors and the router."""
    keep = weight.dim() < 2 or name.endswith(".mlp.gate.weight")
    return (weight.float() if keep else weight.half()).contiguous().clone()


def write_folder(
    folder: Path, tensors: Mapping[str, Tensor], settings: JsonObject, quantization: JsonObject, rest: Path
) -> None:
    """Write a checkpoint that says how it is quantized; its tokenizer and generation settings are those of `rest`."""
    folder.mkdir(parents=True, exist_ok=True)
    told = settings | {"torch_dtype": "float16", "quantization_config": quantization}
    if told.get("num_nextn_predict_layers"):
        told["num_nextn_predict_layers"] = 0  # they are not among the weights
    write_json(folder / "config.json", told)
    copy_tokenizer(rest, folder, GENERATION)
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


def _may_quantize(name: str, stored: Tensor) -> bool:
    """Whether a unit, stored in whatever form, is one of the matrices that this format may quantize."""
    kept = ("embed_tokens.weight", "lm_head.weight", ".k_b_proj.weight", ".v_b_proj.weight", ".mlp.gate.weight")
    return stored.dim() > 1 and not name.endswith(kept)


def _parts(name: str, unit: Unit) -> list[tuple[str, Unit]]:
    """A unit as single matrices by the names of their modules."""
    if unit.stored.dim() == 2:
        return list(zip(_modules(name, None), [unit], strict=True))
    parts = [Unit(part, unit.grid) for part in unit.stored]
    return list(zip(_modules(name, len(parts)), parts, strict=True))


def _modules(name: str, stacked: int | None) -> list[str]:
    """The modules whose weights a unit holds: one, or as many experts as are `stacked` in it."""
    module = name.removesuffix(".weight")
    if stacked is None:
        return [module]
    prefix, _, projection = module.rpartition(".")
    return [f"{prefix}.{number}.{projection}" for number in range(stacked)]


def groups(bits: Mapping[str, int], nameless: int = 0) -> JsonObject:
    """``config_groups`` for modules with their bits: one group per number of bits, none for 0.

    The group of `nameless` bits takes every linear layer, too, that no other names.
    """
    found: JsonObject = {}
    for number, each in enumerate(sorted(set(bits.values()) - {0})):
        found[f"group_{number}"] = {
            "targets": _targets(bits, each) + ["Linear"] * (each == nameless),
            "input_activations": None,
            "output_activations": None,
            "weights": {
                "num_bits": each,
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
    return found


def whole_modules(bits: Mapping[str, int]) -> list[str]:
    """Expressions for the modules of 0 bits, which engines must be told to leave alone."""
    return _targets(bits, 0)


def _targets(bits: Mapping[str, int], wanted: int) -> list[str]:
    """Expressions for the modules of `wanted` bits and for no other: of all layers at once where these agree."""
    others = {_pattern(module, _NUMBER) for module, each in bits.items() if each != wanted}
    patterns = set()
    for module, each in bits.items():
        if each == wanted:
            pattern = _pattern(module, _NUMBER)
            patterns.add(_pattern(module, _EXPERT_NUMBER) if pattern in others else pattern)
    return sorted(f"re:{pattern}$" for pattern in patterns)


def _pattern(module: str, number: re.Pattern[str]) -> str:
    """The name of a module as a regular expression, with any number in place of the ones that `number` finds."""
    return re.escape(number.sub(".N.", module)).replace(r"\.N\.", r"\.\d+\.")


def scheme(config: ModelConfig, layout: str, groups: JsonObject, whole: Sequence[str] = ()) -> JsonObject:
    """``quantization_config`` in the compressed-tensors format `layout`: its groups, and what is left alone."""
    ignored = ["lm_head", "re:.*mlp\\.gate$", *whole]
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
