"""Optimizers without torch's compiler: torch's own bytes, and nothing of it imported."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from model.sections import OptimizerConfig
from model.training.optimizer import make_optimizer
from model.training.uncompiled import AdamW


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever imports torch's compiler fails."""
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    monkeypatch.delattr(torch, "_dynamo", raising=False)


def _trained(optimizer_of: type[torch.optim.AdamW], **options: bool) -> list[torch.Tensor]:
    torch.manual_seed(0)
    values = [nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(7))]
    optimizer = optimizer_of([{"params": values[:1], "weight_decay": 0.3}, {"params": values[1:]}], lr=0.01, **options)
    for step in range(4):
        sum((value * (step + 1)).sin().sum() for value in values).backward()  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
        assert all(value.grad is None for value in values)
    return [value.detach() for value in values]


@pytest.mark.parametrize("fused", [True, False])
def test_it_is_torchs(fused: bool) -> None:
    for ours, theirs in zip(_trained(AdamW, fused=fused), _trained(torch.optim.AdamW, fused=fused), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.usefixtures("no_compiler")
def test_no_step_imports_the_compiler(kind: str) -> None:
    with pytest.raises(ImportError):
        torch.optim.AdamW([nn.Parameter(torch.ones(2))]).step()  # torch's own does
    layer = nn.Linear(4, 4)
    optimizer = make_optimizer(layer.named_parameters(), OptimizerConfig.model_validate({"optimizer": kind}))
    layer(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    assert layer.weight.grad is None
