"""The optimizers of the recipe, over whole parameters, and what of their state belongs into a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model.sections import OptimizerConfig, OptimizerKind
from model.training.muon import Muon

__all__ = ["CLIP_MARGIN", "make_optimizer", "moments"]

CLIP_MARGIN = 1e-6
"""What torch adds to the norm that it divides by."""


def make_optimizer(named: list[tuple[str, nn.Parameter]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW or Muon over whole parameters, as the recipe says."""
    betas = (config.beta1, config.beta2)
    if config.optimizer is OptimizerKind.MUON:
        return Muon(named, config.learning_rate, betas, config.weight_decay)
    parameters = [parameter for _, parameter in named]
    return torch.optim.AdamW(parameters, config.learning_rate, betas, weight_decay=config.weight_decay, fused=True)


def moments(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """What an optimizer keeps for a parameter, without the count of its steps."""
    return {kind: value for kind, value in state.items() if kind != "step"}
