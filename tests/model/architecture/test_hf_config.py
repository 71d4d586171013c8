"""A ``config.json`` of others: what is absent, what is not computed, what bounds the context."""

from __future__ import annotations

from typing import Any

import pytest

from model.architecture.config import Family, LinearScaling, Llama3Scaling, ModelConfig, YarnScaling
from model.architecture.hf_config import read_hf_config
from tests.model.conftest import tiny_config

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = YarnScaling(factor=4.0, original_max_position_embeddings=64, mscale=0.0, mscale_all_dim=0.0)


def read(family: Family, changes: dict[str, Any], without: tuple[str, ...] = ()) -> ModelConfig:
    fields = tiny_config(family, max_position_embeddings=256).to_hf() | changes
    return read_hf_config({name: value for name, value in fields.items() if name not in without})


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        (Family.LLAMA, {"model_type": "gpt2"}, "model_type 'gpt2' is not one of llama, deepseek"),
        (Family.LLAMA, {"model_type": None}, "model_type None"),
        (Family.LLAMA, {"hidden_act": "gelu"}, "hidden_act 'gelu' is not silu"),
        (Family.DEEPSEEK_V3, {"attention_bias": True}, "attention_bias is for the llama family alone"),
        (Family.LLAMA, {"mlp_bias": True}, "mlp_bias"),
        (Family.LLAMA, {"num_attention_heads": None}, "lacks num_attention_heads"),
        (Family.LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported, only 1"),
        (Family.LLAMA, {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        (Family.LLAMA, {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "the same for all layers"),
        (Family.LLAMA, {"rope_scaling": {"type": "longrope", "factor": 4}}, "'longrope' is not supported"),
        (Family.LLAMA, {"rope_scaling": {"type": "yarn", "factor": 4, "attention_factor": 1.0}}, "attention_factor"),
        (Family.LLAMA, {"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0 is not supported"),
        (Family.LLAMA, {"residual_multiplier": 0.2}, "residual_multiplier"),
        (Family.LLAMA, {"is_causal": False}, "is_causal"),
        (Family.QWEN3, {"layer_types": ["full_attention", "linear_attention"]}, "layer_types linear_attention"),
        (Family.DEEPSEEK_V2, {"moe_layer_freq": 2}, "moe_layer_freq 2"),
        (Family.DEEPSEEK_V2, {"scoring_func": "sigmoid"}, "scoring_func 'sigmoid' is not supported, only 'softmax'"),
        (Family.DEEPSEEK_V2, {"topk_method": "noaux_tc"}, "topk_method 'noaux_tc' is not greedy or group_limited"),
        (Family.DEEPSEEK_V2, {"num_experts_per_tok": None}, "lacks num_experts_per_tok"),
        (Family.DEEPSEEK_V3, {"topk_method": "greedy"}, "topk_method"),
        (Family.DEEPSEEK_V3, {"rope_interleave": False}, "rope_interleave False is not supported, only True"),
    ],
)
def test_what_is_not_computed_is_refused(family: Family, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(family, change)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 4}}, LinearScaling(rope_type="linear", factor=4.0)),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, None),
        ({"rope_parameters": {"rope_type": "default"}}, None),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}, YARN),
        ({"rope_scaling": {"type": "yarn", "original_max_position_embeddings": 64}}, YARN),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},  # of the whole context
            YARN.model_copy(update={"original_max_position_embeddings": 256}),
        ),
        (
            {"rope_parameters": LLAMA3 | {"rope_type": "llama3"}},
            Llama3Scaling(**LLAMA3, original_max_position_embeddings=256),
        ),
    ],
)
def test_rotary_embeddings_are_stretched_as_older_and_newer_keys_say(given: dict[str, Any], wanted: object) -> None:
    rope = next(iter(given.values())) | {"rope_theta": 5e5}
    config = read(Family.QWEN2, dict.fromkeys(given, rope), ("rope_theta",))
    assert config.rope_scaling == wanted
    assert config.rope_theta == 5e5
    assert read_hf_config(config.to_hf()) == read_hf_config(config.to_hf())
    assert read_hf_config(config.to_hf()).rope_scaling == wanted


@pytest.mark.parametrize(
    ("family", "change", "without", "context"),
    [
        (Family.MISTRAL, {"sliding_window": 32}, (), 32),
        (Family.MISTRAL, {"max_position_embeddings": 8192}, ("sliding_window",), 4096),
        (Family.MISTRAL, {"sliding_window": None}, (), 256),
        (Family.QWEN2, {"use_sliding_window": False, "sliding_window": 32}, (), 256),
        (Family.QWEN2, {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 2}, (), 32),
        (Family.QWEN2, {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 3}, (), 256),
        (Family.QWEN3, {"use_sliding_window": True, "sliding_window": 32, "layer_types": ["full_attention"]}, (), 256),
        (
            Family.QWEN3,
            {"use_sliding_window": True, "sliding_window": 32, "layer_types": ["sliding_attention"]},
            (),
            32,
        ),
    ],
)
def test_a_window_bounds_the_context(
    family: Family, change: dict[str, Any], without: tuple[str, ...], context: int
) -> None:
    assert read(family, change, without).max_position_embeddings == context


def test_keys_of_the_gate() -> None:
    groups = {"n_group": 4, "topk_group": 1, "num_experts_per_tok": 4, "topk_method": "greedy"}
    assert read(Family.DEEPSEEK_V2, groups).n_group == 1  # which V2's greedy gate does not look at
    nothing = {"n_shared_experts": None, "n_group": None, "topk_group": None}
    config = read(Family.DEEPSEEK_V2, nothing | {"num_key_value_heads": 4})
    assert (config.n_shared_experts, config.n_group, config.topk_group) == (0, 1, 1)
    without = ("norm_topk_prob", "topk_method", "n_group", "topk_group", "routed_scaling_factor")
    config = read(Family.DEEPSEEK_V3, {"n_routed_experts": 16}, without)
    assert (config.n_group, config.topk_group, config.routed_scaling_factor, config.norm_topk_prob) == (8, 4, 2.5, True)
