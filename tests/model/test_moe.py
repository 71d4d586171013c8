"""Gates and balance losses against token-by-token references, and the experts against a loop over tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import Family
from model.moe import Gate, MixtureOfExperts, RoutedExperts, expert_balance_loss, sequence_balance_loss
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
    assert sequence_balance_loss(scores_TE, 2, 3).item() == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_an_even_load_has_loss_one() -> None:
    scores_TE = torch.full((12, 4), 0.25)
    experts_TK = torch.arange(24).view(12, 2) % 4
    assert expert_balance_loss(scores_TE, experts_TK).item() == pytest.approx(1.0)


def test_the_watch_counts_and_moves_the_bias_against_the_load() -> None:
    model = tiny_model()
    watch = GateWatch(model, model.config, 0.1, lambda values: values)
    watch.rows = 2
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
