"""The optimizers of the recipe, over whole parameters, and what of their state belongs into a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model.sections import Decayed, OptimizerConfig, OptimizerKind
from model.training.muon import Muon, is_matrix
from model.training.uncompiled import AdamW

__all__ = ["CLIP_MARGIN", "make_optimizer", "moments", "parameter_groups", "set_learning_rate"]

CLIP_MARGIN = 1e-6
"""What torch adds to the norm that it divides by."""
RATE = "rate"
"""Key of a parameter group: its learning rate over that of the recipe."""
ROUTER = ".gate.weight"
EMBEDDING = "embed_tokens"


def make_optimizer(named: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW or Muon over whole parameters, as the recipe says. `named`: by their plain names."""
    betas = (config.beta1, config.beta2)
    groups = parameter_groups(named, config)
    if config.optimizer is OptimizerKind.MUON:
        return Muon(groups, config.learning_rate, betas, config.weight_decay)
    for group in groups:
        group["params"] = [parameter for _, parameter in group["params"]]
    return AdamW(groups, config.learning_rate, betas, weight_decay=config.weight_decay, fused=True)


def _adamw_rate(config: OptimizerConfig) -> float:
    return config.adamw_rate if config.optimizer is OptimizerKind.MUON else 1.0


def parameter_groups(named: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig) -> list[dict[str, Any]]:
    """Groups of named parameters that share weight decay and learning rate, in the order of their first parameter."""
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in named:
        is_router = name.endswith(ROUTER)
        is_spared = config.decayed is Decayed.MATRICES and (parameter.dim() < 2 or is_router or EMBEDDING in name)
        rate = (config.router_rate if is_router else 1.0) * (1.0 if is_matrix(name, parameter) else _adamw_rate(config))
        key = (0.0 if is_spared else config.weight_decay, rate)
        groups.setdefault(key, []).append((name, parameter))
    return [{"params": found, "weight_decay": decay, RATE: rate} for (decay, rate), found in groups.items()]


def set_learning_rate(optimizer: Any, learning_rate: float) -> None:
    """Give every group its share of the recipe's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get(RATE, 1.0)


def moments(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """What an optimizer keeps for a parameter, without the count of its steps."""
    return {kind: value for kind, value in state.items() if kind != "step"}
