"""Reads the ``config.json`` of a checkpoint that others have made.

An absent key means what `transformers` takes it to mean in that family (5.23), not what a recipe here begins with. A
key that would change what the model computes is either done or refused; those of no consequence are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra.errors import UserError, first_problem
from infra.json_objects import JsonObject, read_object
from model.architecture.config import DENSE, Family, LinearScaling, Llama3Scaling, ModelConfig, YarnScaling

__all__ = ["load_hf_config", "read_hf_config"]

SHAPE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
EXPERTS = ("moe_intermediate_size", "n_routed_experts", "num_experts_per_tok")
LATENT = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
"""Keys that every checkpoint has; some of them no weight's shape would tell."""

_V2 = {"n_shared_experts": 2, "first_k_dense_replace": 0, "norm_topk_prob": False, "q_lora_rank": 1536}
_V3 = {"routed_scaling_factor": 2.5, "n_group": 8, "topk_group": 4, "first_k_dense_replace": 3, "q_lora_rank": 1536}
_ABSENT: dict[Family, JsonObject] = {
    Family.DEEPSEEK: {"n_shared_experts": 0, "first_k_dense_replace": 0, "norm_topk_prob": False},
    Family.MISTRAL: {"num_key_value_heads": 8, "sliding_window": 4096},
    Family.QWEN2: {"num_key_value_heads": 32},
    Family.QWEN3: {"num_key_value_heads": 32, "head_dim": 128},
    Family.DEEPSEEK_V2: _V2,
    Family.DEEPSEEK_V3: _V3,
}
_NULL = {"n_shared_experts": 0, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 0}
"""What null means where it is not "none"."""
_SWIGLU = ("silu", "swish")
_NEUTRAL: JsonObject = {
    "attention_chunk_size": None,
    "attention_multiplier": None,
    "attn_logit_softcapping": None,
    "alibi": False,
    "clip_qkv": None,
    "dim_model_base": None,
    "embedding_multiplier": 1,
    "embedding_scale": 1,
    "final_logit_softcapping": None,
    "is_causal": True,
    "logit_scale": 1,
    "logits_scaling": 1,
    "mlp_bias": False,
    "moe_layer_freq": 1,
    "no_rope_layers": None,
    "partial_rotary_factor": 1,
    "qk_layernorm": False,
    "query_pre_attn_scalar": None,
    "residual_multiplier": 1,
    "rope_interleave": True,
    "rotary_pct": 1,
    "scale_depth": None,
    "scale_emb": 1,
    "use_bidirectional_attention": False,
    "use_qk_norm": False,
}
"""Keys that change what is computed, with the value at which they do not."""


def load_hf_config(folder: Path) -> ModelConfig:
    """The architecture of the checkpoint in a folder.

    Raises:
        UserError: it has no ``config.json``, or one that describes nothing that this project computes.
    """
    path = folder / "config.json"
    try:
        return read_hf_config(read_object(path))
    except FileNotFoundError:
        raise UserError(f"{folder}: no config.json; name the folder of a Hugging Face checkpoint") from None
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {error}") from None
    except KeyError as error:
        raise UserError(f"{path}: the key {error} is missing; copy the folder again") from None


def read_hf_config(fields: Mapping[str, Any]) -> ModelConfig:
    """The architecture that a ``config.json`` describes.

    A sliding window, or a rotary embedding that is stretched only beyond a length, bounds the context: within it the
    model is computed exactly.

    Raises:
        ValueError: a family, or a key of it, that this project does not compute.
    """
    family = _family(fields)
    _refuse(family, fields)
    given = {name: value for name, value in _ABSENT.get(family, {}).items() if name not in fields} | dict(fields)
    known = {name: given[name] for name in ModelConfig.model_fields if given.get(name) is not None}
    known |= {name: value for name, value in _NULL.items() if name in given and given[name] is None}
    known["rope_theta"], known["rope_scaling"] = _rope(given)
    if family in (Family.MISTRAL, Family.QWEN2):  # whose readers pass it over
        known.pop("attention_bias", None)
    if family not in DENSE:
        known.pop("head_dim", None)
        known = _ungrouped(family, fields, known)
    if (window := _window(family, given)) and known.get("max_position_embeddings", 0) > window:
        known["max_position_embeddings"] = window
    if family != Family.DEEPSEEK_V3:
        known.pop("num_nextn_predict_layers", None)
    return ModelConfig.model_validate(known)


def _family(fields: Mapping[str, Any]) -> Family:
    named = fields.get("model_type")
    if named not in list(Family):
        raise ValueError(f"model_type {named!r} is not one of {', '.join(Family)}")
    return Family(named)


def _refuse(family: Family, fields: Mapping[str, Any]) -> None:
    needed: tuple[str, ...] = SHAPE if family in DENSE else SHAPE + EXPERTS
    needed += LATENT if family in (Family.DEEPSEEK_V2, Family.DEEPSEEK_V3) else ()
    if lacking := [name for name in needed if fields.get(name) is None]:
        raise ValueError(f"lacks {', '.join(lacking)}; copy the folder again")
    if fields.get("hidden_act", "silu") not in _SWIGLU:
        raise ValueError(f"hidden_act {fields['hidden_act']!r} is not silu")
    scored = "sigmoid" if family is Family.DEEPSEEK_V3 else "softmax"
    for name, neutral in {**_NEUTRAL, "scoring_func": scored}.items():
        if fields.get(name) is not None and fields[name] != neutral:
            wanted = "leaving it out" if neutral is None else repr(neutral)
            raise ValueError(f"{name} {fields[name]!r} is not supported, only {wanted}")
    methods = ("noaux_tc",) if family is Family.DEEPSEEK_V3 else ("greedy", "group_limited_greedy")
    if family not in DENSE and fields.get("topk_method", methods[0]) not in methods:
        raise ValueError(f"topk_method {fields['topk_method']!r} is not {' or '.join(methods)} in {family}")


def _ungrouped(family: Family, fields: Mapping[str, Any], known: JsonObject) -> JsonObject:
    """Without groups of experts where the gate of V2 does not look at them."""
    if family is Family.DEEPSEEK_V2 and fields.get("topk_method", "greedy") == "greedy":
        return known | {"n_group": 1, "topk_group": 1}
    return known


def _window(family: Family, fields: Mapping[str, Any]) -> int | None:
    """The sliding window, where a layer has one."""
    layers = fields.get("layer_types")
    if layers and (unknown := set(layers) - {"full_attention", "sliding_attention"}):
        raise ValueError(f"layer_types {', '.join(sorted(map(str, unknown)))} are not supported")
    window: int | None = fields.get("sliding_window")
    if layers and "sliding_attention" not in layers:
        return None
    if family not in (Family.QWEN2, Family.QWEN3):
        return window
    slides = layers or fields.get("max_window_layers", 28) < fields["num_hidden_layers"]
    return window if fields.get("use_sliding_window") and slides else None


def _rope(fields: Mapping[str, Any]) -> tuple[float, YarnScaling | Llama3Scaling | LinearScaling | None]:
    """Base of the rotary frequencies, and how they are stretched: in the keys of older and of newer files."""
    given = fields.get("rope_scaling") or fields.get("rope_parameters") or {}
    if not isinstance(given, Mapping) or any(isinstance(value, Mapping) for value in given.values()):
        raise ValueError("rope_scaling and rope_parameters must be one object, the same for all layers")
    rope = {name: value for name, value in given.items() if value is not None}
    if rope.get("partial_rotary_factor", 1) != 1:
        raise ValueError("a rotary embedding of a part of each head (partial_rotary_factor) is not supported")
    theta = rope.get("rope_theta", fields.get("rope_theta"))
    kind = rope.get("rope_type", rope.get("type", "default"))
    return 10000.0 if theta is None else theta, _scaling(kind, rope, fields)


def _scaling(
    kind: str, rope: Mapping[str, Any], fields: Mapping[str, Any]
) -> YarnScaling | Llama3Scaling | LinearScaling | None:
    if kind in ("default", "dynamic"):  # dynamic: as it is up to max_position_embeddings
        return None
    original = fields.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    known = {**rope, "original_max_position_embeddings": original or fields.get("max_position_embeddings")}
    if kind == "linear":
        return LinearScaling(rope_type="linear", factor=rope["factor"])
    if kind == "llama3":
        return Llama3Scaling.model_validate({name: known[name] for name in Llama3Scaling.model_fields})
    if kind == "yarn":
        return _yarn(known, fields)
    raise ValueError(f"rotary scaling {kind!r} is not supported; linear, dynamic, llama3 and yarn are")


def _yarn(rope: Mapping[str, Any], fields: Mapping[str, Any]) -> YarnScaling:
    """YaRN, where absent keys mean what `transformers` takes them to mean."""
    if rope.get("attention_factor") is not None or rope.get("truncate", True) is not True:
        raise ValueError("YaRN with attention_factor or without truncation is not supported")
    known = {name: rope[name] for name in YarnScaling.model_fields if rope.get(name) is not None}
    known.setdefault("factor", fields["max_position_embeddings"] / known["original_max_position_embeddings"])
    return YarnScaling.model_validate({"mscale": 0.0, "mscale_all_dim": 0.0} | known)
