"""The architecture of a model: the fields of a Hugging Face ``config.json``, and how many parameters they make.

One class covers the DeepSeek families, because they differ in two choices only: which attention (plain multi-head or
latent, MLA) and which gate (softmax or sigmoid); and of the dense families those that are Llama but for a bias or a
norm. Free of torch, so that a recipe can be planned without loading it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.json_objects import JsonObject
from infra.section import Added, Section

__all__ = ["DENSE", "Family", "LinearScaling", "Llama3Scaling", "ModelConfig", "YarnScaling", "count_parameters"]


class Family(StrEnum):
    """The ``model_type`` of the checkpoint."""

    LLAMA = "llama"
    """Dense, multi-head or grouped-query attention: DeepSeek-LLM."""
    DEEPSEEK = "deepseek"
    """DeepSeekMoE (arXiv 2401.06066): multi-head attention, softmax gate."""
    DEEPSEEK_V2 = "deepseek_v2"
    """DeepSeek-V2 (arXiv 2405.04434): latent attention, softmax gate."""
    DEEPSEEK_V3 = "deepseek_v3"
    """DeepSeek-V3 (arXiv 2412.19437): latent attention, sigmoid gate with a selection bias."""
    MISTRAL = "mistral"
    """Dense (arXiv 2310.06825): Llama, of contexts within its sliding window."""
    QWEN2 = "qwen2"
    """Dense (arXiv 2407.10671): Llama with a bias on queries, keys and values."""
    QWEN3 = "qwen3"
    """Dense (arXiv 2505.09388): Llama with a norm on every head's queries and keys."""


_ARCHITECTURES = {
    Family.LLAMA: "LlamaForCausalLM",
    Family.DEEPSEEK: "DeepseekForCausalLM",
    Family.DEEPSEEK_V2: "DeepseekV2ForCausalLM",
    Family.DEEPSEEK_V3: "DeepseekV3ForCausalLM",
    Family.MISTRAL: "MistralForCausalLM",
    Family.QWEN2: "Qwen2ForCausalLM",
    Family.QWEN3: "Qwen3ForCausalLM",
}
DENSE = frozenset({Family.LLAMA, Family.MISTRAL, Family.QWEN2, Family.QWEN3})


class YarnScaling(Section):
    """How YaRN (arXiv 2309.00071) stretches the rotary embedding to a longer context."""

    factor: float = Field(40.0, ge=1)
    """Longest context over the original one (V3: 40, of which 4 K to 128 K use 32)."""
    original_max_position_embeddings: int = Field(4096, ge=1)
    """Longest context of pretraining."""
    beta_fast: float = Field(32.0, gt=0)
    """Frequencies that turn more often than this within the original context stay as they are."""
    beta_slow: float = Field(1.0, gt=0)
    """Those that turn less often than this are divided by `factor`."""
    mscale: float = Field(1.0, ge=0)
    """Weight of the logarithmic scale of keys and queries (V2: 0.707)."""
    mscale_all_dim: float = Field(1.0, ge=0)
    """Weight of the logarithmic scale of the logits (V2: 0.707); 0 leaves all of it to the rotary part."""


class Llama3Scaling(Section):
    """How Llama 3.1 (arXiv 2407.21783) stretches the rotary embedding: slow frequencies are divided by `factor`."""

    factor: float = Field(8.0, ge=1)
    """Longest context over the original one, about."""
    low_freq_factor: float = Field(1.0, gt=0)
    """Frequencies that turn less often than this within the original context are divided."""
    high_freq_factor: float = Field(4.0, gt=0)
    """Those that turn more often stay; between the two they go over."""
    original_max_position_embeddings: int = Field(8192, ge=1)
    """Longest context of pretraining."""


class LinearScaling(Section):
    """All rotary frequencies divided alike (arXiv 2306.15595), as DeepSeek-Coder has it."""

    rope_type: Literal["linear"]
    """Tells it from the other ways, which have no such key in a recipe."""
    factor: float = Field(ge=1)
    """Longest context over the original one."""


SCALINGS = {YarnScaling: "yarn", Llama3Scaling: "llama3", LinearScaling: "linear"}
"""What ``config.json`` calls each way to stretch the rotary embedding."""


class ModelConfig(Section):
    """Architecture, in the field names of Hugging Face; a field that a family does not use is ignored."""

    model_type: Family = Family.DEEPSEEK_V3
    """The family: which attention and which gate."""
    vocab_size: int = Field(0, ge=0)
    """Rows of the embedding; 0 takes the size of the tokenizer."""
    hidden_size: int = Field(256, ge=1)
    """Width of the residual stream."""
    num_hidden_layers: int = Field(4, ge=1)
    """Layers, dense ones included."""
    num_attention_heads: int = Field(4, ge=1)
    """Query heads."""
    num_key_value_heads: int | None = Field(None, ge=1)
    """Key and value heads of plain attention; as many as query heads when empty. Latent attention ignores it."""
    head_dim: Annotated[int | None, Added] = Field(None, ge=2, multiple_of=2)
    """Width of one head of plain attention; hidden_size / num_attention_heads when empty."""
    qk_norm: Annotated[bool, Added] = False
    """A norm on every head's queries and keys in the `deepseek` family, as Qwen3 has it: steadier at high rates. Latent
    attention norms its latents instead.
    """
    attention_bias: Annotated[bool, Added] = False
    """Biases on queries, keys, values and the output of attention in the `llama` family. `qwen2` has three of the four
    whatever is said here.
    """
    q_lora_rank: int | None = Field(None, ge=1)
    """Rank of the query compression of latent attention; none when empty."""
    kv_lora_rank: int = Field(128, ge=1)
    """Rank of the key-value latent: what the cache holds per token beside the rotary key."""
    qk_nope_head_dim: int = Field(32, ge=1)
    """Query and key width per head without position (latent attention)."""
    qk_rope_head_dim: int = Field(32, ge=2, multiple_of=2)
    """Query and key width per head with rotary position (latent attention)."""
    v_head_dim: int = Field(64, ge=1)
    """Value width per head (latent attention). Equal to the query width, attention runs on the fused CPU kernel."""
    intermediate_size: int = Field(768, ge=1)
    """Width of the dense feed-forward layers."""
    moe_intermediate_size: int = Field(256, ge=1)
    """Width of one expert."""
    n_routed_experts: int = Field(8, ge=1)
    """Routed experts per layer."""
    n_shared_experts: int = Field(1, ge=0)
    """Experts that every token passes; 0 for none (not in the deepseek_v3 family, whose readers expect one)."""
    num_experts_per_tok: int = Field(2, ge=1)
    """Routed experts that a token passes."""
    n_group: int = Field(1, ge=1)
    """Groups (nodes) that the routed experts are laid out in."""
    topk_group: int = Field(1, ge=1)
    """Groups that a token may reach."""
    routed_scaling_factor: float = Field(1.0, gt=0)
    """Factor on the routed experts' gates (V3: 2.5)."""
    norm_topk_prob: bool = True
    """Whether the chosen gates are scaled to sum to one (V3: yes; DeepSeekMoE, Eq 11: no)."""
    first_k_dense_replace: int = Field(1, ge=0)
    """Leading layers that stay dense."""
    max_position_embeddings: int = Field(4096, ge=1)
    """Longest context the model is meant for."""
    rope_theta: float = Field(10000.0, gt=0)
    """Base of the rotary frequencies."""
    rope_scaling: YarnScaling | Llama3Scaling | LinearScaling | None = None
    """YaRN, Llama 3.1's way, or plain division, for contexts longer than those of pretraining; none when empty."""
    num_nextn_predict_layers: int = Field(0, ge=0)
    """Depth of multi-token prediction: layers that are trained to predict further tokens (V3: 1; deepseek_v3 only)."""
    rms_norm_eps: float = Field(1e-6, gt=0)
    """Added to the mean square in RMSNorm."""
    initializer_range: float = Field(0.006, gt=0)
    """Standard deviation of the initial weights (0.006 in every DeepSeek paper)."""
    tie_word_embeddings: bool = False
    """Whether the output layer shares the embedding."""

    @property
    def has_latent_attention(self) -> bool:
        """Multi-head latent attention (MLA) in place of plain multi-head attention."""
        return self.model_type in (Family.DEEPSEEK_V2, Family.DEEPSEEK_V3)

    @property
    def has_selection_bias(self) -> bool:
        """A sigmoid gate, with a bias that affects which experts are chosen and not their weight."""
        return self.model_type is Family.DEEPSEEK_V3

    @property
    def topk_method(self) -> str:
        """How experts are chosen, by DeepSeek's name for it."""
        if self.has_selection_bias:
            return "noaux_tc"
        return "group_limited_greedy" if self.n_group > 1 else "greedy"

    @property
    def key_value_heads(self) -> int:
        """Key and value heads of plain attention."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def is_dense(self) -> bool:
        """Whether no layer has experts."""
        return self.model_type in DENSE

    @property
    def has_qkv_bias(self) -> bool:
        """A bias on queries, keys and values of plain attention."""
        return self.model_type is Family.QWEN2 or self.attention_bias

    @property
    def has_head_norms(self) -> bool:
        """A norm on every head's queries and keys."""
        return self.model_type is Family.QWEN3 or self.qk_norm

    @property
    def head_width(self) -> int:
        """Width of one head of plain attention."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def rotary_dim(self) -> int:
        """Number of rotated dimensions of a head."""
        return self.qk_rope_head_dim if self.has_latent_attention else self.head_width

    def is_moe_layer(self, layer: int) -> bool:
        """Whether layer number `layer` holds routed experts."""
        return not self.is_dense and layer >= self.first_k_dense_replace

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Numbers of the layers with routed experts."""
        return tuple(layer for layer in range(self.num_hidden_layers) if self.is_moe_layer(layer))

    @property
    def prediction_layers(self) -> tuple[int, ...]:
        """Numbers of the layers of multi-token prediction, which follow the model's own."""
        return tuple(range(self.num_hidden_layers, self.num_hidden_layers + self.num_nextn_predict_layers))

    @property
    def attention_width(self) -> int:
        """Widest of a head's query, key and value."""
        if self.has_latent_attention:
            return max(self.qk_nope_head_dim + self.qk_rope_head_dim, self.v_head_dim)
        return self.head_width

    def with_vocabulary(self, size: int) -> ModelConfig:
        """This config with `vocab_size` filled in when it was left to the tokenizer; ValueError when too small."""
        if self.vocab_size and self.vocab_size < size:
            raise ValueError(f"vocab_size {self.vocab_size} is smaller than the tokenizer's {size} tokens")
        return self if self.vocab_size else self.model_copy(update={"vocab_size": size})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.is_dense:
            if self.num_experts_per_tok > self.n_routed_experts:
                raise ValueError("num_experts_per_tok exceeds n_routed_experts")
            if self.n_routed_experts % self.n_group:
                raise ValueError("n_routed_experts is not a multiple of n_group")
            if self.topk_group > self.n_group:
                raise ValueError("topk_group exceeds n_group")
            if self.num_experts_per_tok > self.n_routed_experts // self.n_group * self.topk_group:
                raise ValueError("num_experts_per_tok exceeds the experts of topk_group groups")
            if self.has_selection_bias and self.n_routed_experts // self.n_group < 2:
                raise ValueError("the deepseek_v3 gate scores a group by its two best experts: give each group two")
            if self.model_type is Family.DEEPSEEK_V2 and self.norm_topk_prob:
                raise ValueError(
                    "deepseek_v2 scales its gates and does not normalise them: set norm_topk_prob to false"
                )
            if self.model_type is Family.DEEPSEEK_V3 and self.n_shared_experts < 1 and self.moe_layers:
                raise ValueError("deepseek_v3 needs n_shared_experts >= 1")
        if self.num_nextn_predict_layers and self.model_type is not Family.DEEPSEEK_V3:
            raise ValueError("num_nextn_predict_layers is for deepseek_v3 alone")
        if self.qk_norm and self.model_type is not Family.DEEPSEEK:
            raise ValueError("qk_norm is for the deepseek family: qwen3 has it, latent attention norms its latents")
        if self.attention_bias and self.model_type is not Family.LLAMA:
            raise ValueError("attention_bias is for the llama family alone")
        if not self.has_latent_attention:
            if self.head_dim is None and (self.hidden_size % self.num_attention_heads or self.head_width % 2):
                raise ValueError("hidden_size / num_attention_heads must be an even whole number; else give head_dim")
            if self.num_attention_heads % self.key_value_heads:
                raise ValueError("num_attention_heads is not a multiple of num_key_value_heads")
        return self

    def to_hf(self, *, bos: int | None = None, eos: int | None = None, pad: int | None = None) -> JsonObject:
        """The contents of ``config.json``; `bos`, `eos` and `pad` are token ids of the tokenizer."""
        fields = self.model_dump(mode="json")
        fields |= {
            "architectures": [_ARCHITECTURES[self.model_type]],
            "num_key_value_heads": self.num_attention_heads if self.has_latent_attention else self.key_value_heads,
            "hidden_act": "silu",
            "attention_bias": self.attention_bias,
            "attention_dropout": 0.0,
            "torch_dtype": "float32",
            "use_cache": True,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": pad,
        }
        if self.model_type is Family.QWEN3:  # whose readers take 128 where it is absent
            fields["head_dim"] = self.head_width
        elif self.head_dim is None:
            del fields["head_dim"]
        if not self.qk_norm:
            del fields["qk_norm"]
        if self.rope_scaling is not None:
            kind = SCALINGS[type(self.rope_scaling)]
            fields["rope_scaling"] |= {"type": kind, "rope_type": kind}
        if self.is_dense:
            moe = ("experts", "lora", "qk_", "v_head", "moe_", "group", "routed", "norm_topk", "first_k", "nextn")
            fields = {name: value for name, value in fields.items() if not any(part in name for part in moe)}
            fields["mlp_bias"] = False
            if self.model_type in (Family.QWEN2, Family.QWEN3):
                fields["use_sliding_window"] = False
            elif self.model_type is Family.MISTRAL:
                fields["sliding_window"] = None
        else:
            fields |= {
                "scoring_func": "sigmoid" if self.has_selection_bias else "softmax",
                "topk_method": self.topk_method,
                "moe_layer_freq": 1,
            }
            if self.has_selection_bias:
                fields["rope_interleave"] = True
        return fields


def count_parameters(config: ModelConfig, *, active: bool = False, prediction: bool = False) -> int:
    """Number of trained parameters, in all or (`active`) those that one token passes through.

    The embedding counts in both, as in the published totals; the selection bias is no parameter. `prediction` adds the
    layers of multi-token prediction, which the published totals leave out (V3: 671 B without).
    """
    hidden = config.hidden_size
    if config.has_latent_attention:
        heads, query = config.num_attention_heads, config.qk_nope_head_dim + config.qk_rope_head_dim
        rank = config.q_lora_rank
        attention = hidden * heads * query if rank is None else rank * (hidden + 1 + heads * query)
        attention += hidden * (config.kv_lora_rank + config.qk_rope_head_dim) + config.kv_lora_rank
        attention += config.kv_lora_rank * heads * (config.qk_nope_head_dim + config.v_head_dim)
        attention += heads * config.v_head_dim * hidden
    else:
        keys, width = config.head_width * config.key_value_heads, config.head_width * config.num_attention_heads
        attention = 2 * hidden * (width + keys)
        attention += (width + 2 * keys) * config.has_qkv_bias + hidden * config.attention_bias
        attention += 2 * config.head_width * config.has_head_norms
    dense = 3 * hidden * config.intermediate_size
    experts = config.num_experts_per_tok if active else config.n_routed_experts
    expert = 3 * hidden * config.moe_intermediate_size
    moe = (experts + config.n_shared_experts) * expert + config.n_routed_experts * hidden
    moe_layers = len(config.moe_layers)
    layers = config.num_hidden_layers * (attention + 2 * hidden) + moe_layers * moe
    if prediction:  # each with a projection of 2 D to D and three norms more
        layers += config.num_nextn_predict_layers * (attention + moe + 2 * hidden * hidden + 5 * hidden)
    layers += (config.num_hidden_layers - moe_layers) * dense
    embeddings = config.vocab_size * hidden * (1 if config.tie_word_embeddings else 2)
    return layers + embeddings + hidden
