"""Muon against torch's own, which knows two dimensions and bf16, and against what it promises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from model.training.muon import Muon, orthogonalise


def test_singular_values_end_up_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((24, 64), (64, 24), (3, 16, 16)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(*shape, generator=generator)))
        assert values.min() > 0.3
        assert values.max() < 1.3


def _all(named: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
    return [{"params": list(named)}]


def _models() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(1)
    ours, theirs = nn.Linear(24, 16, bias=False), nn.Linear(24, 16, bias=False)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def test_steps_are_those_of_torch() -> None:
    ours, theirs = _models()
    mine = Muon(_all(ours.named_parameters()), 0.02, (0.9, 0.95), 0.1)
    other = torch.optim.Muon(theirs.parameters(), lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        x = torch.randn(8, 24, generator=torch.Generator().manual_seed(step))
        for model, optimizer in ((ours, mine), (theirs, other)):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight, atol=5e-3, rtol=0)  # theirs rounds to bf16
    assert (ours.weight - _models()[0].weight).abs().max() > 3e-2


def test_fused_halves_and_experts_are_matrices_of_their_own() -> None:
    torch.manual_seed(2)
    fused = nn.Parameter(torch.randn(2, 8, 6))
    parts = [nn.Parameter(half.clone()) for expert in fused.detach() for half in expert.chunk(2)]
    gradient = torch.randn(2, 8, 6)
    fused.grad = gradient
    for part, piece in zip(parts, (half for expert in gradient for half in expert.chunk(2)), strict=True):
        part.grad = piece.clone()
    Muon(_all([("mlp.experts.gate_up_proj", fused)]), 0.1, (0.9, 0.95), 0.1).step()
    Muon(_all((f"w{number}", part) for number, part in enumerate(parts)), 0.1, (0.9, 0.95), 0.1).step()
    torch.testing.assert_close(fused.flatten(0, 1), torch.cat([part.detach() for part in parts]))


def test_embeddings_gates_and_norms_take_adamw() -> None:
    names = ("model.embed_tokens.weight", "lm_head.weight", "layers.1.mlp.gate.weight", "norm.weight")
    torch.manual_seed(3)
    mine = [nn.Parameter(torch.randn(4, 3)) for _ in names[:3]] + [nn.Parameter(torch.randn(4))]
    other = [nn.Parameter(value.detach().clone()) for value in mine]
    ours = Muon(_all(zip(names, mine, strict=True)), 0.01, (0.9, 0.95), 0.1)
    theirs = torch.optim.AdamW(other, 0.01, (0.9, 0.95), weight_decay=0.1)
    for _ in range(3):
        for left, right in zip(mine, other, strict=True):
            left.grad = torch.randn_like(left)
            right.grad = left.grad.clone()
        ours.step()
        theirs.step()
    for left, right in zip(mine, other, strict=True):
        torch.testing.assert_close(left, right)
