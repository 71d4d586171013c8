"""Muon: momentum whose matrices are orthogonalised before they are applied, AdamW for everything that is no matrix.

Keller Jordan's Muon (2024) with the scale of "Muon is scalable for LLM training" (arXiv 2502.16982, section 2.2): the
update has the root mean square of AdamW's, so learning rate and weight decay carry over. Each expert's gate, up and
down projection is a matrix of its own, fused or not, so all layouts take the same step. torch's own `Muon` knows two
dimensions only and computes in bf16, which a CPU without that hardware does a hundred times slower.

Whole matrices are needed, so ZeRO's flat partitions of optimizer state are not for it. Under ZeRO-1 each rank has the
state of some whole parameters instead, updates those, and tells the others (`Muon.own`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from model.training.uncompiled import Optimizer

__all__ = ["Muon", "is_matrix", "orthogonalise"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
MOMENTUM = 0.95
RMS = 0.2
"""Root mean square of AdamW's typical update (arXiv 2502.16982, section 2.2)."""


def orthogonalise(g_xMN: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly: singular values end up between 0.7 and 1.2 (quintic
    Newton-Schulz). bf16 on a GPU, fp32 elsewhere; leading dimensions are a batch."""
    a, b, c = COEFFICIENTS
    x_xMN = g_xMN.to(torch.bfloat16 if g_xMN.is_cuda else torch.float32)
    is_tall = x_xMN.shape[-2] > x_xMN.shape[-1]
    if is_tall:
        x_xMN = x_xMN.mT
    x_xMN = x_xMN / (x_xMN.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(STEPS):
        gram = x_xMN @ x_xMN.mT
        x_xMN = a * x_xMN + (b * gram + c * gram @ gram) @ x_xMN
    return (x_xMN.mT if is_tall else x_xMN).to(g_xMN.dtype)


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Hidden matrices: neither embedding nor output layer nor gate."""
    outside = ("embed_tokens", "lm_head", ".gate.weight")
    return parameter.dim() >= 2 and not any(part in name for part in outside)


def _by_kind(group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A group of named parameters in parts: matrices, fused matrices, all else."""
    kinds: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in group["params"]:
        kinds.setdefault((is_matrix(name, parameter), name.endswith("gate_up_proj")), []).append(parameter)
    return [{**group, "params": found, "muon": muon, "fused": fused} for (muon, fused), found in kinds.items()]


class Muon(Optimizer):
    """See the module. Its groups carry ``muon``: whether their parameters are matrices.

    Args:
        groups: of named parameters (`model.training.optimizer.parameter_groups`).
    """

    def __init__(
        self,
        groups: Iterable[Mapping[str, Any]],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        super().__init__([part for group in groups for part in _by_kind(group)], defaults)
        self._own: set[nn.Parameter] | None = None

    def own(self, parameters: Iterable[nn.Parameter]) -> None:
        """Step these alone from now on; somebody else steps the others."""
        self._own = set(parameters)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            live = [
                parameter for parameter in group["params"] if parameter.grad is not None and self._is_own(parameter)
            ]
            for parameter in live if group["muon"] else ():
                self._orthogonal_step(parameter, group)
            if live and not group["muon"]:
                self._adamw_step(live, group)

    def _is_own(self, parameter: nn.Parameter) -> bool:
        return self._own is None or parameter in self._own

    def _orthogonal_step(self, parameter: nn.Parameter, group: Mapping[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(parameter)
        state["step"] += 1
        buffer: Tensor = state["momentum"]
        buffer.lerp_(gradient, 1 - MOMENTUM)
        update = gradient.lerp(buffer, MOMENTUM)  # Nesterov
        if group["fused"]:
            update = update.unflatten(-2, (2, -1))
        scale = RMS * max(update.shape[-2:]) ** 0.5
        update = orthogonalise(update).reshape(parameter.shape)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * scale)

    def _adamw_step(self, live: list[nn.Parameter], group: Mapping[str, Any]) -> None:
        for parameter in live:
            if not self.state[parameter]:
                self.state[parameter].update(
                    step=torch.zeros(()), exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter)
                )
        states = [self.state[parameter] for parameter in live]
        adamw(
            [parameter.data for parameter in live],
            [parameter.grad for parameter in live if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )
