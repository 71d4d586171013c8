"""Costs against the papers' numbers, and the memory model against what torch really allocates."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from model.architecture.config import Family, ModelConfig, count_parameters
from model.architecture.transformer import Transformer
from model.planning.costs import (
    Layout,
    expert_parameters,
    flops_per_token,
    scaled_flops_per_token,
    training_memory,
)
from model.sections import TrainingConfig
from model.training.batches import TrainingBatch
from model.training.next_token import train

LENGTH = 128
VARIANTS = {
    "llama": {"model_type": "llama"},
    "deepseek": {"model_type": "deepseek", "norm_topk_prob": False, "n_shared_experts": 2},
    "v2, unfused": {"model_type": "deepseek_v2", "norm_topk_prob": False, "v_head_dim": 32},
    "v3, fused": {},
    "v3, q_lora, recomputed": {"q_lora_rank": 64},
    "v3, accumulating": {"n_routed_experts": 16, "num_hidden_layers": 3},
    "v3, predicting": {"num_nextn_predict_layers": 1, "num_hidden_layers": 2},
}


def _config(name: str) -> ModelConfig:
    return ModelConfig.model_validate({"vocab_size": 512, "moe_intermediate_size": 128} | VARIANTS[name])


class _Rows:
    """Random tokens in packed documents."""

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        tokens_BT = torch.randint(0, 512, (8, LENGTH), generator=torch.Generator().manual_seed(step))
        return TrainingBatch(tokens_BT, (torch.arange(LENGTH) // 40).expand(8, -1))


def _peak_of_run(config: ModelConfig, folder: Path, *, micro: int, recomputes: bool) -> int:
    """Most bytes above those of the weights that torch's CPU allocator held in three steps."""
    torch.manual_seed(0)
    model = Transformer(config)
    model.recomputes = recomputes
    training = TrainingConfig(steps=3, batch_size=8, micro_batch=micro, warmup_steps=1)
    gc.collect()  # what earlier tests left is not to be freed, and subtracted, meanwhile
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        train(model, _Rows(), training, folder)
    held = peak = 0
    events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize("name", VARIANTS)
def test_memory_is_within_ten_percent_of_what_is_allocated(name: str, tmp_path: Path) -> None:
    config = _config(name)
    micro = 4 if "accumulating" in name else 8
    recompute = "recomputed" in name
    layout = Layout(rows=micro, accumulation=8 // micro, recompute=recompute)
    estimate = training_memory(config, LENGTH, layout)
    measured = _peak_of_run(config, tmp_path, micro=micro, recomputes=recompute)
    print(f"{name}: {(estimate.peak - estimate.weights) / 1e6:.1f} MB estimated, {measured / 1e6:.1f} MB allocated")
    assert estimate.peak - estimate.weights == pytest.approx(measured, rel=0.1)
    assert estimate.weights == 4 * sum(p.numel() for p in Transformer(config).parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_activations_are_those_that_autograd_keeps(name: str) -> None:
    config = _config(name)
    model = Transformer(config)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, or its address would be used again
        return tensor

    batch = _Rows().batch(0, 0, 1)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        h_BTD = model.hidden(batch.tokens_BT, batch.documents_BT)
        states = model.mtp_hidden_states(h_BTD, batch.tokens_BT, batch.documents_BT)
        del states
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert training_memory(config, LENGTH, Layout(rows=8)).activations == pytest.approx(measured, rel=0.05)


def test_operations_of_the_published_comparison() -> None:
    """DeepSeekMoE, table 3: 74.4 T per 4 K tokens at 16B, 187.9 T for LLaMA2 7B; the paper counts attention in full."""
    moe = ModelConfig.model_validate(
        {
            "model_type": "deepseek", "vocab_size": 102400, "hidden_size": 2048, "num_hidden_layers": 28,
            "num_attention_heads": 16, "intermediate_size": 10944, "moe_intermediate_size": 1408,
            "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "norm_topk_prob": False,
        }
    )  # fmt: skip
    llama = ModelConfig.model_validate(
        {
            "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
            "num_attention_heads": 32, "intermediate_size": 11008,
        }
    )  # fmt: skip
    for config, published in ((moe, 74.4e12), (llama, 187.9e12)):
        attention = 6 * config.num_hidden_layers * config.hidden_size * 4096  # the other half of it
        assert (flops_per_token(config, 4096) + attention) * 4096 == pytest.approx(published, rel=0.025)


def test_scaled_operations_are_the_papers_formula() -> None:
    """M = 72 L d^2 + 12 L d seq, where the feed-forward layer is 8/3 of the width (within the norms)."""
    config = ModelConfig.model_validate(
        {"model_type": "llama", "vocab_size": 100, "hidden_size": 768, "num_hidden_layers": 12,
         "num_attention_heads": 12, "intermediate_size": 2048}
    )  # fmt: skip
    formula = 72 * 12 * 768**2 + 12 * 12 * 768 * 1024
    assert scaled_flops_per_token(config, 1024) == pytest.approx(formula, rel=1e-3)


@pytest.mark.parametrize("family", [Family.DEEPSEEK, Family.DEEPSEEK_V3])
def test_layouts_share_out_what_they_should(family: Family) -> None:
    config = ModelConfig.model_validate(
        {"model_type": family, "vocab_size": 512, "norm_topk_prob": family is Family.DEEPSEEK_V3}
    )
    total, experts = count_parameters(config), expert_parameters(config)
    dense = total - experts
    one = training_memory(config, LENGTH, Layout())
    assert (one.weights, one.gradients, one.optimizer) == (4 * total, 4 * total, 8 * total)
    wide = training_memory(config, LENGTH, Layout(devices=8, expert_parallel=4, zero=1))
    assert wide.weights == 4 * (dense + experts // 4)
    assert wide.optimizer == 12 * (dense // 8 + experts // 4 // 2)
    third = training_memory(config, LENGTH, Layout(devices=8, expert_parallel=4, zero=3))
    assert third.weights == third.gradients == 4 * (dense // 8 + experts // 4 // 2)
    assert third.optimizer == wide.optimizer


@pytest.mark.parametrize(
    ("rows", "recompute", "measured"),
    [(4, False, 25.49e9), (4, True, 24.14e9), (8, False, 29.98e9), (8, True, 26.44e9)],
)
def test_memory_of_a_gpu(rows: int, recompute: bool, measured: float) -> None:
    """What `bench.gpu` read off an H200 (2026-11-26): layers of DeepSeek-V2-Lite, rows of 2048 tokens, bf16."""
    config = ModelConfig(
        vocab_size=32000, hidden_size=2048, num_hidden_layers=3, num_attention_heads=16, kv_lora_rank=512,
        qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, intermediate_size=10944, moe_intermediate_size=1408,
        n_routed_experts=64, n_shared_experts=2, num_experts_per_tok=6,
    )  # fmt: skip
    planned = training_memory(config, 2048, Layout(rows=rows, recompute=recompute, gpu=True)).peak
    assert planned == pytest.approx(measured, rel=0.1)
