"""Parameter counts against torch and the published totals; config.json there and back."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from model.architecture.config import Family, ModelConfig, count_parameters
from model.architecture.hf_config import read_hf_config
from model.architecture.transformer import Transformer
from tests.model.conftest import tiny_config

PUBLISHED = {
    # DeepSeekMoE 16B: 16.4 B, 2.8 B active (arXiv 2401.06066, table 2)
    "deepseek-moe-16b": (
        {
            "model_type": "deepseek", "vocab_size": 102400, "hidden_size": 2048, "num_hidden_layers": 28,
            "num_attention_heads": 16, "intermediate_size": 10944, "moe_intermediate_size": 1408,
            "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "norm_topk_prob": False,
        },
        16.4e9, 2.8e9,
    ),
    # DeepSeek-V2-Lite: 15.7 B (model card)
    "deepseek-v2-lite": (
        {
            "model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 2048, "num_hidden_layers": 27,
            "num_attention_heads": 16, "intermediate_size": 10944, "moe_intermediate_size": 1408, "kv_lora_rank": 512,
            "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 64,
            "n_shared_experts": 2, "num_experts_per_tok": 6, "norm_topk_prob": False,
        },
        15.7e9, None,
    ),
    # DeepSeek-V3: 671 B, 37 B active (arXiv 2412.19437; its 37 B leaves the embedding out)
    "deepseek-v3": (
        {
            "model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168, "num_hidden_layers": 61,
            "num_attention_heads": 128, "intermediate_size": 18432, "moe_intermediate_size": 2048,
            "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
            "v_head_dim": 128, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
            "n_group": 8, "topk_group": 4, "routed_scaling_factor": 2.5, "first_k_dense_replace": 3,
        },
        671e9, None,
    ),
    # DeepSeek-LLM 67B (arXiv 2401.02954)
    "deepseek-llm-67b": (
        {
            "model_type": "llama", "vocab_size": 102400, "hidden_size": 8192, "num_hidden_layers": 95,
            "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 22016,
        },
        67.4e9, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("rank", [None, 24])
def test_count_equals_torch(family: Family, rank: int | None) -> None:
    config = tiny_config(family, q_lora_rank=rank)
    assert count_parameters(config) == sum(parameter.numel() for parameter in Transformer(config).parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_on_the_meta_device(name: str) -> None:
    fields, total, active = PUBLISHED[name]
    config = ModelConfig.model_validate(fields)
    with torch.device("meta"):
        built = sum(parameter.numel() for parameter in Transformer(config).parameters())
    assert built == count_parameters(config)
    assert built == pytest.approx(total, rel=0.01)
    if active is not None:
        assert count_parameters(config, active=True) == pytest.approx(active, rel=0.02)


@pytest.mark.parametrize("family", list(Family))
def test_hf_round_trip(family: Family) -> None:
    config = tiny_config(family)
    again = read_hf_config(config.to_hf(bos=0, eos=1, pad=2))
    assert again.to_hf() == config.to_hf()


@pytest.mark.parametrize(
    "change", [{"num_experts_per_tok": 9}, {"n_group": 3}, {"n_group": 2, "topk_group": 3}, {"n_shared_experts": 0}]
)
def test_impossible_shapes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        tiny_config(**change)


def test_heads_are_normed_by_choice() -> None:
    """As Qwen3's, by the same names; a model without says nothing of it, so that earlier files keep their bytes."""
    plain, normed = tiny_config(Family.DEEPSEEK), tiny_config(Family.DEEPSEEK, qk_norm=True)
    model = Transformer(normed)
    assert count_parameters(normed) == sum(parameter.numel() for parameter in model.parameters())
    names = {name for name, _ in model.named_parameters()} - {name for name, _ in Transformer(plain).named_parameters()}
    assert names == {f"model.layers.{n}.self_attn.{which}_norm.weight" for n in range(3) for which in "qk"}
    assert read_hf_config(normed.to_hf()).to_hf() == normed.to_hf()
    assert normed.to_hf()["qk_norm"]
    assert "qk_norm" not in plain.to_hf()
    for family in (Family.LLAMA, Family.DEEPSEEK_V3):
        with pytest.raises(ValidationError, match="qk_norm is for the deepseek family"):
            tiny_config(family, qk_norm=True)


def test_normed_heads_have_logits_that_do_not_grow_with_the_weights() -> None:
    model = Transformer(tiny_config(Family.DEEPSEEK, qk_norm=True, num_hidden_layers=1)).eval()
    tokens_BT = torch.arange(12)[None]
    with torch.no_grad():
        before = model(tokens_BT)
        for which in (model.model.layers[0].self_attn.q_proj, model.model.layers[0].self_attn.k_proj):
            which.weight.mul_(50.0)
        torch.testing.assert_close(model(tokens_BT), before, rtol=1e-3, atol=1e-4)
