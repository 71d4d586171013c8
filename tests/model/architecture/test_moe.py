"""Gates and balance losses against token-by-token references, and the experts against a loop over tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import model.architecture.moe
from model.architecture.config import Family
from model.architecture.moe import (
    Gate,
    MixtureOfExperts,
    RoutedExperts,
    device_balance_loss,
    expert_balance_loss,
    sequence_balance_loss,
)
from model.sections import BalanceScope, OptimizerConfig
from model.training.balance import GateWatch, load_statistics
from tests.model.conftest import tiny_config, tiny_model


def _reference(gate: Gate, x_D: Tensor) -> dict[int, float]:
    """Expert number to gate value of one token, following the papers' prose."""
    logits = (gate.weight @ x_D).tolist()
    if gate.is_sigmoid:
        scores = [1 / (1 + torch.tensor(-value).exp().item()) for value in logits]
        choice = [s + b for s, b in zip(scores, gate.e_score_correction_bias.tolist(), strict=True)]
    else:
        choice = scores = torch.tensor(logits).softmax(0).tolist()
    size = len(scores) // gate.groups
    groups = [choice[g * size : (g + 1) * size] for g in range(gate.groups)]
    rank = [sum(sorted(g)[-2:]) if gate.is_sigmoid else max(g) for g in groups]
    allowed = sorted(range(gate.groups), key=lambda g: -rank[g])[: gate.kept_groups]
    experts = sorted((e for e in range(len(scores)) if e // size in allowed), key=lambda e: -choice[e])[: gate.top_k]
    total = sum(scores[e] for e in experts) if gate.is_normalised else 1.0
    return {e: scores[e] / total * gate.scale for e in experts}


@pytest.mark.parametrize("family", [Family.DEEPSEEK, Family.DEEPSEEK_V3])
def test_gate_computes_in_fp32_under_autocast(family: Family) -> None:
    gate = tiny_model(family).get_submodule("model.layers.1.mlp.gate")
    assert isinstance(gate, Gate)
    x_TD = torch.randn(7, gate.weight.shape[1])
    exact_TE = gate.scores(x_TD)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gate.scores(x_TD), exact_TE)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("family", [Family.DEEPSEEK, Family.DEEPSEEK_V2, Family.DEEPSEEK_V3])
def test_gate_equals_the_reference(family: Family, groups: int) -> None:
    torch.manual_seed(0)
    gate = Gate(tiny_config(family, n_group=groups, topk_group=min(2, groups)))
    torch.nn.init.normal_(gate.weight)
    if gate.is_sigmoid:
        gate.e_score_correction_bias.normal_(std=0.3)
    x_TD = torch.randn(50, 32)
    with torch.no_grad():
        gates_TK, experts_TK = gate(x_TD)
        for x_D, gates, experts in zip(x_TD, gates_TK.tolist(), experts_TK.tolist(), strict=True):
            assert dict(zip(experts, gates, strict=True)) == pytest.approx(_reference(gate, x_D), rel=1e-4)


def test_the_selection_bias_chooses_but_does_not_weigh() -> None:
    gate = Gate(tiny_config(num_experts_per_tok=1, routed_scaling_factor=1.0, norm_topk_prob=False))
    torch.nn.init.normal_(gate.weight)
    gate.e_score_correction_bias[5] = 10.0
    x_TD = torch.randn(20, 32)
    gates_TK, experts_TK = gate(x_TD)
    assert (experts_TK == 5).all()
    torch.testing.assert_close(gates_TK[:, 0], gate.scores(x_TD)[:, 5])


def test_experts_equal_a_loop_over_tokens_with_gradients() -> None:
    torch.manual_seed(0)
    experts = RoutedExperts(4, 8, 6)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    x_TD = torch.randn(10, 8, requires_grad=True)
    gates_TK = torch.rand(10, 2, requires_grad=True)
    experts_TK = torch.tensor([[0, 1], [1, 3]] * 5)  # expert 2 starves
    y_TD = experts(x_TD, gates_TK, experts_TK)
    rows = []
    for t in range(10):
        row = torch.zeros(8)
        for k in range(2):
            gate, up = (experts.gate_up_proj[experts_TK[t, k]] @ x_TD[t]).chunk(2)
            row = row + gates_TK[t, k] * (experts.down_proj[experts_TK[t, k]] @ (F.silu(gate) * up))
        rows.append(row)
    slow_TD = torch.stack(rows)
    torch.testing.assert_close(y_TD, slow_TD, atol=1e-4, rtol=1e-4)
    wanted = [x_TD, gates_TK, *experts.parameters()]
    ours = torch.autograd.grad(y_TD.square().sum(), wanted)
    theirs = torch.autograd.grad(slow_TD.square().sum(), wanted)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-3, rtol=1e-3)


def test_expert_balance_loss_equals_eq_12_to_14() -> None:
    scores_TE = torch.rand(30, 6).softmax(-1)
    experts_TK = scores_TE.topk(2).indices
    slow = 0.0
    for i in range(6):
        f = 6 / (2 * 30) * sum(int(i in row) for row in experts_TK.tolist())
        slow += f * sum(scores_TE[t, i].item() for t in range(30)) / 30
    assert expert_balance_loss(scores_TE, experts_TK).item() == pytest.approx(slow, rel=1e-5)


def test_sequence_balance_loss_equals_eq_17_to_20() -> None:
    scores_TE = torch.rand(3 * 10, 6)
    losses = []
    for row in scores_TE.split(10):
        loss = 0.0
        for i in range(6):
            f = 6 / (2 * 10) * sum(int(i in s.topk(2).indices.tolist()) for s in row)
            loss += f * sum((s[i] / s.sum()).item() for s in row) / 10
        losses.append(loss)
    shares_TE = scores_TE / scores_TE.sum(1, keepdim=True)
    ours = sequence_balance_loss(shares_TE, scores_TE.topk(2).indices, 3).item()
    assert ours == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_device_balance_loss_equals_eq_15_to_17() -> None:
    scores_TE = torch.rand(30, 6).softmax(-1)
    experts_TK = scores_TE.topk(2).indices
    f = [6 / (2 * 30) * sum(int(i in row) for row in experts_TK.tolist()) for i in range(6)]
    p = [sum(scores_TE[t, i].item() for t in range(30)) / 30 for i in range(6)]
    slow = sum(sum(f[i] for i in group) / 2 * sum(p[i] for i in group) for group in ((0, 1), (2, 3), (4, 5)))
    assert device_balance_loss(scores_TE, experts_TK, 3).item() == pytest.approx(slow, rel=1e-5)
    assert device_balance_loss(scores_TE, experts_TK, 6).item() == pytest.approx(
        expert_balance_loss(scores_TE, experts_TK).item(), rel=1e-6
    )


def test_an_even_load_has_loss_one() -> None:
    scores_TE = torch.full((12, 4), 0.25)
    experts_TK = torch.arange(24).view(12, 2) % 4
    assert expert_balance_loss(scores_TE, experts_TK).item() == pytest.approx(1.0)
    assert device_balance_loss(scores_TE, experts_TK, 2).item() == pytest.approx(1.0)
    assert sequence_balance_loss(scores_TE, experts_TK, 3).item() == pytest.approx(1.0)


LOSSES = {
    "sequence": (Family.DEEPSEEK_V3, {"balance_loss": 0.1}),
    "sequence-softmax": (Family.DEEPSEEK_V2, {"balance_loss": 0.1, "balance_scope": BalanceScope.SEQUENCE}),
    "batch": (Family.DEEPSEEK, {"balance_loss": 0.1}),
    "batch-sigmoid": (Family.DEEPSEEK_V3, {"balance_loss": 0.1, "balance_scope": BalanceScope.BATCH}),
    "device": (Family.DEEPSEEK, {"balance_loss": 0.1, "device_balance_loss": 0.2, "balance_devices": 4}),
}


def _gradients(name: str, *, recomputes: bool = False, parts: int = 1) -> tuple[list[Tensor], Tensor, list[int]]:
    """Gradients, loads and token counts of one step whose loss is the balance loss and a sum of logits."""
    family, factors = LOSSES[name]
    model = tiny_model(family).train()
    model.recomputes = recomputes
    watch = GateWatch(model, model.config, OptimizerConfig.model_validate(factors), lambda values: values)
    tokens_BT = torch.randint(0, 97, (4, 20), generator=torch.Generator().manual_seed(2))
    seen = []
    for part in tokens_BT.chunk(parts):
        watch.begin(len(part))
        logits_BTV = model(part)
        loss = watch.take_loss()
        assert torch.as_tensor(loss).item() > 0
        (logits_BTV.square().mean() / parts + loss / parts).backward()
        seen.append(len(watch._losses))
    counts_LE = watch.counts()
    assert counts_LE is not None
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return gradients, counts_LE, seen


@pytest.mark.parametrize("name", LOSSES)
def test_activation_checkpointing_changes_neither_losses_nor_loads(name: str) -> None:
    plain, plain_counts, _ = _gradients(name, parts=2)
    again, again_counts, left = _gradients(name, parts=2, recomputes=True)
    assert left == [0, 0], "a recomputed gate is not counted"
    assert torch.equal(plain_counts, again_counts)
    for mine, other in zip(plain, again, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["sequence", "sequence-softmax"])
def test_sequence_losses_do_not_depend_on_micro_batches(name: str) -> None:
    whole, whole_counts, _ = _gradients(name)
    parts, part_counts, _ = _gradients(name, parts=4)
    assert torch.equal(whole_counts, part_counts)
    for mine, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-4)


def test_devices_that_do_not_divide_the_experts_are_refused() -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match="balance_devices 3"):
        GateWatch(model, model.config, OptimizerConfig(balance_devices=3), lambda values: values)


def test_the_watch_counts_and_moves_the_bias_against_the_load() -> None:
    model = tiny_model()
    watch = GateWatch(model, model.config, OptimizerConfig(balance_loss=0.1), lambda values: values)
    watch.begin(2)
    model(torch.randint(0, 97, (2, 20)))
    assert torch.as_tensor(watch.take_loss()).item() > 0
    counts_LE = watch.counts()
    assert counts_LE is not None
    assert counts_LE.sum(1).tolist() == [2 * 20 * 3] * 2
    moe = model.model.layers[1].mlp
    assert isinstance(moe, MixtureOfExperts)
    before = moe.gate.e_score_correction_bias.clone()
    watch.finish_step(counts_LE, 0.01)
    moved = moe.gate.e_score_correction_bias - before
    torch.testing.assert_close(moved, 0.01 * torch.sign(15.0 - counts_LE[0]), atol=1e-6, rtol=0)
    assert watch.counts().sum() == 0  # type: ignore[union-attr]
    with torch.no_grad():
        model(torch.randint(0, 97, (2, 20)))
    assert watch.counts().sum() == 0, "evaluation is not counted"  # type: ignore[union-attr]


def test_load_statistics_of_an_even_load() -> None:
    assert load_statistics(torch.full((4,), 7.0)) == {"min": 1.0, "max": 1.0, "cv": 0.0}


def test_counts_without_waiting_are_those_of_bincount(monkeypatch: pytest.MonkeyPatch) -> None:
    module = model.architecture.moe
    chosen = torch.randint(0, 7, (130,), generator=torch.Generator().manual_seed(0))
    for at_once in (1 << 20, 64):
        monkeypatch.setattr(module, "COUNTED_AT_ONCE", at_once)
        counts = module._counted(chosen, 9)
        assert counts.tolist() == chosen.bincount(minlength=9).tolist()
        assert counts.dtype is torch.int64


def test_the_loss_of_the_gates_logits_is_at_work() -> None:
    transformer = tiny_model(Family.DEEPSEEK)
    config = OptimizerConfig(balance_loss=0.0, router_z_loss=0.5)
    watch = GateWatch(transformer.train(), transformer.config, config, lambda values: values)
    watch.begin(2)
    transformer(torch.arange(24).view(2, 12))
    x_TD: list[Tensor] = []
    gates = [transformer.model.layers[layer].mlp.gate for layer in transformer.config.moe_layers]
    for gate in gates:
        gate.register_forward_pre_hook(lambda gate, inputs: x_TD.append(inputs[0].detach()))
    loss = torch.as_tensor(watch.take_loss())
    transformer(torch.arange(24).view(2, 12))
    expected = sum((x @ gate.weight.t()).logsumexp(-1).square().mean() for x, gate in zip(x_TD, gates, strict=True))
    torch.testing.assert_close(loss, 0.5 * torch.as_tensor(expected))
    loss.backward()
    assert gates[0].weight.grad is not None
