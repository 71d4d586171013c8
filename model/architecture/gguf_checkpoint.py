"""A checkpoint in one GGUF file: its architecture, and its weights worked out to fp32 whatever their blocks.

llama.cpp's files hold everything that a Hugging Face folder does. Queries and keys of Llama lie there in the order that
llama.cpp rotates, and what it multiplies with lies apart where our modules hold one matrix: both are undone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import ExpertGatingFuncType, GGUFReader, dequantize
from pydantic import ValidationError
from torch import Tensor

from infra.errors import UserError
from model.architecture.config import Family, Llama3Scaling, ModelConfig
from model.architecture.gguf_names import PAIRED, unit_name
from model.architecture.rotary import frequencies

__all__ = ["is_gguf", "read_gguf"]

FAMILIES = {"llama": Family.LLAMA, "qwen2": Family.QWEN2, "qwen3": Family.QWEN3, "deepseek2": Family.DEEPSEEK_V2}
FREQUENCIES = "rope_freqs.weight"
_PLAIN = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
_EXPERTS = {
    "q_lora_rank": "attention.q_lora_rank",
    "kv_lora_rank": "attention.kv_lora_rank",
    "qk_rope_head_dim": "rope.dimension_count",
    "v_head_dim": "attention.value_length_mla",
    "moe_intermediate_size": "expert_feed_forward_length",
    "n_routed_experts": "expert_count",
    "n_shared_experts": "expert_shared_count",
    "num_experts_per_tok": "expert_used_count",
    "n_group": "expert_group_count",
    "topk_group": "expert_group_used_count",
    "routed_scaling_factor": "expert_weights_scale",
    "norm_topk_prob": "expert_weights_norm",
    "first_k_dense_replace": "leading_dense_block_count",
}

NEEDED = ("block_count", "embedding_length", "attention.head_count")
"""Without which a model would be taken for one of the sizes that we begin with."""


def is_gguf(path: Path) -> bool:
    """Whether a checkpoint is one GGUF file."""
    return path.is_file() and path.suffix == ".gguf"


def read_gguf(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The architecture and the fp32 weights, by the names of our modules.

    Raises:
        UserError: it is no GGUF file, or of an architecture that this project does not know.
    """
    try:
        reader = GGUFReader(path)
    except Exception as error:  # of whatever kind a damaged file makes it
        raise UserError(f"{path}: not a readable GGUF file ({error}); copy it again") from None
    values = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    vocabulary = tensors["token_embd.weight"].shape[1] if "token_embd.weight" in tensors else 0
    try:
        config = _config(values, tensors.keys(), int(vocabulary))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; copy it again") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, TypeError) as error:  # what is worked out of a number that is not there
        raise UserError(
            f"{path}: its metadata is not whole ({error}); copy it again, or convert the model again"
        ) from None
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        try:
            weight = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        except NotImplementedError as error:
            raise UserError(f"{path}: tensor {name}: {error}; take a file of other blocks, such as Q8_0") from None
        if name == FREQUENCIES:
            config = _long_context(config, weight, path)
            continue
        unit = unit_name(name)
        if unit is None:
            raise UserError(f"{path}: tensor {name} is none of this project's {config.model_type} models")
        found[unit] = _halves_order(unit, weight, config)
    return config, _joined(found)


def _config(values: Mapping[str, Any], tensors: Any, vocabulary: int) -> ModelConfig:
    architecture = values.get("general.architecture")
    if architecture not in FAMILIES:
        raise ValueError(f"its architecture {architecture!r} is not one of {', '.join(FAMILIES)}")

    def value(key: str) -> Any:
        found = values.get(f"{architecture}.{key}")
        return float(f"{found:.7g}") if isinstance(found, float) else found  # 32 bits of what was 1e-5

    if lacking := [key for key in NEEDED if not value(key)]:
        raise ValueError(f"its metadata lacks {', '.join(lacking)}; copy it again, or convert the model again")
    family = FAMILIES[architecture]
    if value("rope.scaling.type") not in (None, "none"):
        raise ValueError(f"rotary scaling {value('rope.scaling.type')!r} is not read from GGUF files; take the folder")
    fields = {name: value(key) for name, key in _PLAIN.items()}
    if window := value("attention.sliding_window"):
        fields["max_position_embeddings"] = min(window, fields["max_position_embeddings"])
    if family is Family.DEEPSEEK_V2:
        fields |= {name: value(key) for name, key in _EXPERTS.items()}
        fields["q_lora_rank"] = fields["q_lora_rank"] or None
        fields["qk_nope_head_dim"] = value("attention.key_length_mla") - fields["qk_rope_head_dim"]
        if value("expert_gating_func") == ExpertGatingFuncType.SIGMOID:
            family = Family.DEEPSEEK_V3
    else:
        if value("expert_count"):
            raise ValueError(f"{architecture} with experts is no family of this project")
        fields["num_key_value_heads"] = value("attention.head_count_kv")
        width, heads = value("attention.key_length"), fields["num_attention_heads"]
        fields["head_dim"] = None if width in (None, fields["hidden_size"] / heads) else width
    if predicts := value("nextn_predict_layers") or 0:  # counted among the blocks, whether they are in the file or not
        fields["num_hidden_layers"] -= predicts
        there = f"blk.{fields['num_hidden_layers']}.nextn.eh_proj.weight" in tensors
        fields["num_nextn_predict_layers"] = predicts if there and family is Family.DEEPSEEK_V3 else None
    known = {name: found for name, found in fields.items() if found is not None}
    return ModelConfig.model_validate(
        known | {"model_type": family, "vocab_size": vocabulary, "tie_word_embeddings": "output.weight" not in tensors}
    )


def _long_context(config: ModelConfig, factors_r: Tensor, path: Path) -> ModelConfig:
    """The config with Llama 3.1's rotary scaling, if these are its divisors of the frequencies."""
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
    raise UserError(f"{path}: {FREQUENCIES} is not of Llama 3.1's kind, which alone is known; take the folder")


def _halves_order(name: str, weight: Tensor, config: ModelConfig) -> Tensor:
    """Rows of Llama's query and key projections in the order of our rotation; the inverse of what files have."""
    if config.model_type not in PAIRED or not name.endswith(("q_proj.weight", "k_proj.weight")):
        return weight
    heads = config.num_attention_heads if name.endswith("q_proj.weight") else config.key_value_heads
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
