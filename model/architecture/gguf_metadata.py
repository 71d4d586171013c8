"""The architecture that the metadata of a GGUF file describes.

An absent key means what llama.cpp takes it to mean. A key that would change what is computed is either done or refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from gguf import ExpertGatingFuncType, GGUFReader
from pydantic import ValidationError

from infra.errors import UserError, first_problem
from infra.json_objects import JsonObject
from model.architecture.config import Family, LinearScaling, ModelConfig, YarnScaling

__all__ = ["YARN_WEIGHT", "Metadata", "describe", "read_metadata"]

YARN_WEIGHT = 0.1
"""Files hold `mscale_all_dim` times this factor of YaRN's logarithm."""
FAMILIES = {"llama": Family.LLAMA, "qwen2": Family.QWEN2, "qwen3": Family.QWEN3, "deepseek2": Family.DEEPSEEK_V2}
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
_ABSENT = {"n_shared_experts": 0, "norm_topk_prob": False, "first_k_dense_replace": 0}
"""What llama.cpp takes the experts' keys to be in files that lack them."""
NEEDED = (
    "block_count",
    "embedding_length",
    "attention.head_count",
    "feed_forward_length",
    "context_length",
    "attention.layer_norm_rms_epsilon",
)
"""Without which a model would be taken for one of the sizes that we begin with."""
_NEUTRAL = {
    "attention.causal": True,
    "attention.clamp_kqv": 0,
    "attention.max_alibi_bias": 0,
    "attention.scale": 0,
    "attention.temperature_scale": 0,
    "attn_logit_softcapping": 0,
    "embedding_scale": 1,
    "final_logit_softcapping": 0,
    "logit_scale": 1,
    "residual_scale": 1,
    "rope.scaling.attn_factor": 1,
    "rope.scaling.yarn_attn_factor": 1,
    "rope.scaling.yarn_ext_factor": 1,
    "use_parallel_residual": False,
}
"""Keys that change what is computed, with the value at which they do not."""


EMBEDDING, BIAS = "token_embd.weight", "blk.0.attn_q.bias"


def describe(path: Path, parts: Sequence[GGUFReader]) -> ModelConfig:
    """The architecture of the open file `path`.

    Raises:
        UserError: it is one that this project does not compute, or its metadata is not whole.
    """
    values = _values(parts[0])
    tensors = {tensor.name: tensor for part in parts for tensor in part.tensors}
    if EMBEDDING not in tensors:
        raise UserError(f"{path}: {EMBEDDING} is missing; copy it again")
    try:
        return read_metadata(values, tensors.keys(), int(tensors[EMBEDDING].shape[1]))
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}; copy it again") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, TypeError) as error:  # what is worked out of a number that is not there
        raise UserError(
            f"{path}: its metadata is not whole ({error}); copy it again, or convert the model again"
        ) from None


def _values(reader: GGUFReader) -> JsonObject:
    """By key, without the tokenizer's."""
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}


class Metadata:
    """The values of one architecture; numbers of 32 bits as they were written (1e-5, not 9.9999997e-06)."""

    def __init__(self, values: Mapping[str, Any], architecture: str) -> None:
        self._values, self.architecture = values, architecture

    @classmethod
    def of(cls, reader: GGUFReader) -> Metadata:
        """Those of the architecture that the file says it is of."""
        values = _values(reader)
        return cls(values, str(values.get("general.architecture")))

    def __call__(self, key: str) -> Any:
        found = self._values.get(f"{self.architecture}.{key}")
        return float(f"{found:.7g}") if isinstance(found, float) else found


def read_metadata(values: Mapping[str, Any], tensors: Collection[str], vocabulary: int) -> ModelConfig:
    """The architecture.

    Args:
        values: metadata by key.
        tensors: names of the file's tensors.
        vocabulary: rows of its embedding.

    Raises:
        ValueError: an architecture, or a key of it, that this project does not compute; or a key is missing.
        KeyError, TypeError: a number is missing, or is none.
    """
    value = Metadata(values, _architecture(values))
    fields = {name: value(key) for name, key in _PLAIN.items()} | _scaling(value)
    if window := value("attention.sliding_window"):
        fields["max_position_embeddings"] = min(window, fields["max_position_embeddings"])
    if FAMILIES[value.architecture] is Family.DEEPSEEK_V2:
        fields |= _latent(value)
    else:
        fields |= _plain(value) | {"attention_bias": value.architecture == "llama" and BIAS in tensors}
    if predicts := value("nextn_predict_layers") or 0:  # counted among the blocks, whether they are in the file or not
        fields["num_hidden_layers"] -= predicts
        there = f"blk.{fields['num_hidden_layers']}.nextn.eh_proj.weight" in tensors
        fields["num_nextn_predict_layers"] = predicts if there and fields["model_type"] is Family.DEEPSEEK_V3 else None
    known = {name: found for name, found in fields.items() if found is not None}
    tied = "output.weight" not in tensors
    return ModelConfig.model_validate(known | {"vocab_size": vocabulary, "tie_word_embeddings": tied})


def _architecture(values: Mapping[str, Any]) -> str:
    named = values.get("general.architecture")
    if named not in FAMILIES:
        raise ValueError(f"its architecture {named!r} is not one of {', '.join(FAMILIES)}")
    value = Metadata(values, named)
    if lacking := [key for key in NEEDED if not value(key)]:
        raise ValueError(f"its metadata lacks {', '.join(lacking)}; copy it again, or convert the model again")
    if several := [key for key in _PLAIN.values() if isinstance(value(key), list)]:
        raise ValueError(f"{several[0]} differs from layer to layer, which is not supported")
    for key, neutral in _NEUTRAL.items():
        if value(key) not in (None, neutral):
            raise ValueError(f"{named}.{key} {value(key)!r} is not supported, only {neutral!r}")
    return str(named)


def _plain(value: Metadata) -> JsonObject:
    """Of dense families."""
    if value("expert_count"):
        raise ValueError(f"{value.architecture} with experts is no family of this project")
    hidden, heads = value("embedding_length"), value("attention.head_count")
    width = value("attention.key_length") or hidden // heads
    if value("attention.value_length") not in (None, width):
        raise ValueError("keys and values of different widths are not supported")
    if value("rope.dimension_count") not in (None, width):
        raise ValueError(f"a rotary embedding of {value('rope.dimension_count')} of {width} numbers is not supported")
    return {
        "model_type": FAMILIES[value.architecture],
        "num_key_value_heads": value("attention.head_count_kv"),
        "head_dim": None if width == hidden / heads else width,
    }


def _latent(value: Metadata) -> JsonObject:
    """Of DeepSeek-V2 and V3, in files from before and after llama.cpp absorbed the expansion of keys and values."""
    fields = {name: value(key) for name, key in _EXPERTS.items()}
    fields |= {name: absent for name, absent in _ABSENT.items() if fields[name] is None}
    fields["q_lora_rank"] = fields["q_lora_rank"] or None
    fields["routed_scaling_factor"] = fields["routed_scaling_factor"] or None
    is_absorbed = value("attention.key_length_mla") is not None
    width = value("attention.key_length_mla" if is_absorbed else "attention.key_length")
    fields["v_head_dim"] = value("attention.value_length_mla" if is_absorbed else "attention.value_length")
    fields["qk_nope_head_dim"] = width - fields["qk_rope_head_dim"]
    is_sigmoid = value("expert_gating_func") == ExpertGatingFuncType.SIGMOID
    return fields | {"model_type": Family.DEEPSEEK_V3 if is_sigmoid else Family.DEEPSEEK_V2}


def _scaling(value: Metadata) -> JsonObject:
    """How the rotary embedding is stretched; Llama 3.1's way is told by a tensor instead."""
    kind, factor = value("rope.scaling.type"), value("rope.scaling.factor") or value("rope.scale_linear")
    if kind == "none" or not factor:
        return {}
    if kind in (None, "linear") and factor != 1 and FAMILIES[value.architecture] is Family.DEEPSEEK_V2:
        raise ValueError("linear rotary scaling is not supported in deepseek2, which scales its logits with it")
    if kind in (None, "linear"):
        return {} if factor == 1 else {"rope_scaling": LinearScaling(rope_type="linear", factor=factor)}
    if kind != "yarn":
        raise ValueError(f"rotary scaling {kind!r} is not supported; linear and yarn are")
    weight = float(f"{(value('rope.scaling.yarn_log_multiplier') or 0.0) / YARN_WEIGHT:.6g}")
    if weight and FAMILIES[value.architecture] is not Family.DEEPSEEK_V2:
        raise ValueError("rope.scaling.yarn_log_multiplier is supported in deepseek2 alone")
    keys = {"beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow"}
    betas = {name: value(f"rope.scaling.{key}") for name, key in keys.items()}
    return {
        "rope_scaling": YarnScaling(
            factor=factor,
            original_max_position_embeddings=value("rope.scaling.original_context_length") or value("context_length"),
            mscale=weight,
            mscale_all_dim=weight,
            **{name: beta for name, beta in betas.items() if beta},
        )
    }
