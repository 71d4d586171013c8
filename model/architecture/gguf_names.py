"""What GGUF files call architectures and weights, beside the names of `model.release.units`."""

from __future__ import annotations

import re

from model.architecture.config import Family

__all__ = ["ARCHITECTURES", "FREQUENCIES", "PAIRED", "ROTATED", "gguf_name", "unit_name"]

FREQUENCIES = "rope_freqs.weight"
"""Divisors of the rotary frequencies: part of the architecture, and no weight of ours."""

ARCHITECTURES = {
    Family.LLAMA: "llama",
    Family.MISTRAL: "llama",
    Family.QWEN2: "qwen2",
    Family.QWEN3: "qwen3",
    Family.DEEPSEEK_V2: "deepseek2",
    Family.DEEPSEEK_V3: "deepseek2",
}
"""llama.cpp's name of each family that it computes."""
PAIRED = (Family.LLAMA, Family.MISTRAL)
"""Whose queries and keys llama.cpp rotates in neighbouring pairs, and not in halves."""
ROTATED = re.compile(r"\.[qk]_proj\.(weight|bias)$")
"""What makes those."""

_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.k_b_proj": "attn_k_b",
    "self_attn.v_b_proj": "attn_v_b",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.experts.gate_proj": "ffn_gate_exps",
    "mlp.experts.up_proj": "ffn_up_exps",
    "mlp.experts.down_proj": "ffn_down_exps",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
    "enorm": "nextn.enorm",
    "hnorm": "nextn.hnorm",
    "eh_proj": "nextn.eh_proj",
    "shared_head.norm": "nextn.shared_head_norm",
}


def gguf_name(name: str) -> str:
    """The GGUF name of a unit."""
    if name in _NAMES:
        return _NAMES[name]
    _, _, number, rest = name.split(".", 3)
    if rest in _LAYER_NAMES:
        return f"blk.{number}.{_LAYER_NAMES[rest]}"
    module, _, kind = rest.rpartition(".")
    return f"blk.{number}.{_LAYER_NAMES[module]}.{kind}"


def unit_name(name: str) -> str | None:
    """The unit of a GGUF name, or None where there is none: the inverse of `gguf_name`."""
    if name in _UNITS:
        return _UNITS[name]
    match = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
    if match is None:
        return None
    number, rest = match.groups()
    if rest in _LAYER_UNITS:
        return f"model.layers.{number}.{_LAYER_UNITS[rest]}"
    module, _, kind = rest.rpartition(".")
    found = _LAYER_UNITS.get(module)
    return found and f"model.layers.{number}.{found}.{kind}"


_UNITS = {name: unit for unit, name in _NAMES.items()}
_LAYER_UNITS = {name: unit for unit, name in _LAYER_NAMES.items()} | {"attn_kv_b": "self_attn.kv_b_proj"}
"""`attn_kv_b` is of files from before llama.cpp had it in two."""
