"""What adapters are measured from and learn by: the reference without a copy, and the gradients of DPO and GRPO."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.architecture.transformer import Transformer
from model.finetune_sections import GrpoConfig, Held
from model.rl.batches import Answer, MicroBatch, micro_batch
from model.rl.dpo import _batch, answer_log_probabilities, dpo_loss
from model.rl.pairs import Pair
from model.rl.policy import Policy
from model.rl.reference import FormerFactors, FrozenCopy
from model.training.adapted import EXPERT_WEIGHTS, AdaptedExperts
from model.training.lora import Adapters, adapt
from tests.model.training.test_lora import CONFIG, _learned, _wide

CPU = torch.device("cpu")
PAIRS = [Pair([1, 2, 3], [4, 5], [6]), Pair([7], [8, 9, 10, 11], [12, 13])]
ANSWERS = [
    Answer([5, 6, 7], [8, 9, 10], [-4.5, -4.7, -4.4], 1.3),
    Answer([5, 6, 7], [11, 3], [-4.6, -4.5], -0.9),
    Answer([20, 21], [22, 23, 24, 25], [-4.4] * 4, 0.7),
]


def _part() -> MicroBatch:
    return micro_batch([[answer] for answer in ANSWERS], lambda length: 1.0 / length, CPU)


def _said(model: Transformer) -> Tensor:
    with torch.no_grad():
        return _part().log_probabilities(model)[0]


@pytest.mark.parametrize("held", [Held.FP32, Held.Q4_0])
def test_the_reference_needs_no_copy_and_is_the_copys_to_the_bit(held: Held) -> None:
    """Of a model held in codes it is what they say."""
    config = CONFIG.model_copy(update={"held": held})
    start = _wide()
    if held is not Held.FP32:
        adapt(start, config, seed=0).merge()
    frozen, adapters = FrozenCopy(start, CPU), adapt(_wide(), config, seed=0)
    former = FormerFactors(adapters)
    kept = sum(value.numel() * value.element_size() for value in former.weights.values())
    assert kept < 0.5 * sum(value.numel() * value.element_size() for value in frozen.weights.values())
    for factor in adapters.factors().values():
        factor.data += torch.randn(factor.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    moved = _said(adapters.model)
    assert torch.equal(former.log_probabilities(_part()), frozen.log_probabilities(_part()))
    assert torch.equal(_said(adapters.model), moved), "the policy has its own factors again"
    assert not torch.allclose(moved, former.log_probabilities(_part()), atol=0.01)
    former.renew(adapters.model)
    assert torch.equal(former.log_probabilities(_part()), moved)
    next(iter(adapters.factors().values())).data += 1
    assert torch.equal(former.log_probabilities(_part()), moved), "and stays when the policy goes on"


def _dpo_gradients(model: Transformer, reference: Transformer) -> float:
    with torch.no_grad():
        reference_P2 = answer_log_probabilities(_batch(PAIRS, CPU), reference, PAIRS)
    losses_P, _ = dpo_loss(answer_log_probabilities(_batch(PAIRS, CPU), model, PAIRS), reference_P2, 0.5)
    losses_P.sum().backward()
    return losses_P.sum().item()


def _grpo_gradients(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(policy.engine, "step", lambda rate: torch.tensor(0.0))
    row = policy.update(ANSWERS, 1e-6)
    assert row is not None
    assert row["kl"] > 1e-3
    return row["loss"]


def _check(adapters: Adapters, plain: Transformer) -> None:
    """Gradients of the factors are those of the merged weights, by the chain rule: of a weight's G, ``s G A^T`` and
    ``s B^T G``."""
    for name, module in adapters.modules():
        there = plain.get_submodule(name)
        for which in EXPERT_WEIGHTS if isinstance(module, AdaptedExperts) else ("weight",):
            whole = getattr(there, which).grad
            if not isinstance(module, AdaptedExperts):
                a, b, expected = module.lora_A, module.lora_B, (module.lora_B.T @ whole, whole @ module.lora_A.T)
            else:
                a, b, experts = module.lora_A[which], module.lora_B[which], len(whole)
                ranks = a.unflatten(0, (experts, -1)), b.unflatten(1, (-1, experts)).permute(2, 0, 1)
                expected = (
                    (ranks[1].transpose(1, 2) @ whole).flatten(0, 1),
                    (whole @ ranks[0].transpose(1, 2)).permute(1, 2, 0).flatten(1),
                )
            for factor, gradient in zip((a, b), expected, strict=True):
                torch.testing.assert_close(factor.grad, module.scale * gradient, atol=1e-5, rtol=1e-3, msg=name)


def test_what_dpo_and_grpo_teach_adapters_is_what_they_teach_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The selection bias, which has no gradient, is left alone."""
    start, adapters, merged = _wide(), _learned(_wide()), _learned(_wide())
    merged.merge()
    config = GrpoConfig(kl_weight=0.5, bias_update_speed=0.1)
    policy, whole = Policy(adapters.model, config, adapters=adapters), Policy(merged.model, config)
    assert policy.actor is adapters.model
    assert policy.reference is not None
    for name, value in policy.reference.weights.items():
        if "lora_B" in name:
            value.zero_()  # as the adapters began
    whole.reference = FrozenCopy(start, CPU)
    assert _dpo_gradients(adapters.model, start) == pytest.approx(_dpo_gradients(merged.model, start), abs=1e-5)
    _check(adapters, merged.model)
    for model in (adapters.model, merged.model):
        model.zero_grad()
    biases = {name: value.clone() for name, value in adapters.model.named_buffers() if name.endswith("bias")}
    assert _grpo_gradients(policy, monkeypatch) == pytest.approx(_grpo_gradients(whole, monkeypatch), abs=1e-5)
    _check(adapters, merged.model)
    assert biases
    assert all(torch.equal(adapters.model.get_buffer(name), value) for name, value in biases.items())
    assert not torch.equal(merged.model.get_buffer(next(iter(biases))), next(iter(biases.values())))
