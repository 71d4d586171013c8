"""The weights of a model as the quantizer and the exporters see them: one tensor per kind of matrix and layer.

Stacked experts are split into gate, up and down; the key-value expansion of latent attention into its key half, turned
over as llama.cpp multiplies with it, and its value half. So a block of 32 weights of a row is a block everywhere, and
packed weights go into any format without being rounded again.

Shape suffixes: E experts, F expert width, D hidden, N heads, P query width without position, V value width, C latent
width.
"""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor

from model.architecture.config import ModelConfig
from model.architecture.transformer import Transformer

__all__ = ["Role", "role_of", "units"]


class Role(StrEnum):
    """What a weight is for, as far as its precision goes."""

    EXPERTS = "experts"
    LINEAR = "linear"
    EMBEDDINGS = "embeddings"
    KEPT = "kept"
    """Router, norms, selection bias: few weights, much harm."""


def units(model: Transformer) -> dict[str, Tensor]:
    """Views of all weights by name: writing into one changes the model. Matrices are [R, C] or [B, R, C]."""
    found: dict[str, Tensor] = {}
    for name, weight in model.state_dict().items():
        if name.endswith(".mlp.experts.gate_up_proj"):
            prefix = name.removesuffix("gate_up_proj")
            width = model.config.moe_intermediate_size
            found[f"{prefix}gate_proj.weight"] = weight[:, :width]
            found[f"{prefix}up_proj.weight"] = weight[:, width:]
        elif name.endswith(".mlp.experts.down_proj"):
            found[f"{name}.weight"] = weight
        elif name.endswith(".self_attn.kv_b_proj.weight"):
            prefix = name.removesuffix("kv_b_proj.weight")
            key_NCP, value_NVC = _halves(weight, model.config)
            found[f"{prefix}k_b_proj.weight"] = key_NCP
            found[f"{prefix}v_b_proj.weight"] = value_NVC
        elif name != "lm_head.weight" or not model.config.tie_word_embeddings:
            found[name] = weight
    return found


def role_of(name: str, weight: Tensor) -> Role:
    """The role of a unit."""
    if weight.dim() < 2 or name.endswith(".mlp.gate.weight"):
        return Role.KEPT
    if name in ("model.embed_tokens.weight", "lm_head.weight"):
        return Role.EMBEDDINGS
    return Role.EXPERTS if ".mlp.experts." in name else Role.LINEAR


def _halves(weight: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """The key half [N, C, P] and the value half [N, V, C] of ``kv_b_proj``."""
    weight_NxC = weight.view(config.num_attention_heads, -1, config.kv_lora_rank)
    key_NPC, value_NVC = weight_NxC.split((config.qk_nope_head_dim, config.v_head_dim), dim=1)
    return key_NPC.transpose(1, 2), value_NVC
