"""Small models that the tests of this layer share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from model.architecture.config import Family, ModelConfig
from model.architecture.transformer import Transformer


def tiny_config(family: Family = Family.DEEPSEEK_V3, **changes: object) -> ModelConfig:
    """A model of a few thousand parameters in which every choice of its family is at work."""
    fields: dict[str, object] = {
        "model_type": family,
        "vocab_size": 97,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2 if family is Family.LLAMA else None,
        "q_lora_rank": None,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "num_experts_per_tok": 3,
        "norm_topk_prob": family is Family.DEEPSEEK_V3,
        "routed_scaling_factor": 2.5 if family is Family.DEEPSEEK_V3 else 1.0,
        "initializer_range": 0.2,
    }
    return ModelConfig.model_validate(fields | changes)


def tiny_model(family: Family = Family.DEEPSEEK_V3, *, seed: int = 0, **changes: object) -> Transformer:
    """A `tiny_config` model with random weights, norms and selection biases."""
    torch.manual_seed(seed)
    model = Transformer(tiny_config(family, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.uniform_(-0.2, 0.2)
    return model.eval()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """For the stages too, which take as many threads as they see cores: at this size a second one only waits."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.sched_getaffinity", lambda _: {0})
        patch.setenv("OMP_NUM_THREADS", "1")  # and for the processes that tests start: rounding must be the same
        yield
