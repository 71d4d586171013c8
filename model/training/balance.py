"""Watches the gates during training: balance losses, selection-bias updates, load per expert.

It hooks the gates from outside, so the same code serves the model's own `Gate` and the router that DeepSpeed's AutoEP
puts in its place (which has no balancing of its own).

Shapes: T tokens of this rank's micro-batch, E routed experts, K experts per token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import Family, ModelConfig
from model.moe import MixtureOfExperts, expert_balance_loss, sequence_balance_loss

__all__ = ["GateWatch", "load_statistics"]


@dataclass
class _Watched:
    layer: int
    weight: nn.Parameter
    bias_E: Tensor | None
    counts_E: Tensor


class GateWatch:
    """Collects balance losses and expert loads of all gates of a model while it is in training mode.

    Args:
        model: a `Transformer`, after AutoEP has replaced its layers if it has.
        config: the architecture.
        loss_factor: of the balance loss; 0 skips its computation.
        mean_over_ranks: averages a tensor over the ranks; needed by the expert-level loss alone.
    """

    def __init__(
        self, model: nn.Module, config: ModelConfig, loss_factor: float, mean_over_ranks: Callable[[Tensor], Tensor]
    ) -> None:
        self._config = config
        self._factor = loss_factor
        self._mean_over_ranks = mean_over_ranks
        self._losses: list[Tensor] = []
        self.rows = 1
        """Sequences in the current micro-batch of this rank; set before each forward pass."""
        self._watched: list[_Watched] = []
        for number in config.moe_layers:
            moe: Any = model.get_submodule(f"model.layers.{number}.mlp")
            is_plain = isinstance(moe, MixtureOfExperts)
            gate: Any = moe.gate if is_plain else moe.router
            weight: nn.Parameter = gate.weight if is_plain else gate.gate.weight
            bias_E = gate.e_score_correction_bias if config.has_selection_bias else None
            watched = _Watched(number, weight, bias_E, torch.zeros(config.n_routed_experts, device=weight.device))
            self._watched.append(watched)
            gate.register_forward_hook(self._hook(watched))

    def _hook(self, watched: _Watched) -> Callable[..., None]:
        def collect(gate: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
            if not torch.is_grad_enabled():
                return
            x_TD, experts_TK = inputs[0], outputs[1]
            watched.counts_E += experts_TK.flatten().bincount(minlength=len(watched.counts_E))
            if not self._factor:
                return
            logits_TE = F.linear(x_TD.float(), watched.weight.float())
            if self._config.model_type is Family.DEEPSEEK_V3:
                loss = sequence_balance_loss(logits_TE.sigmoid(), self._config.num_experts_per_tok, self.rows)
            else:
                loss = expert_balance_loss(logits_TE.softmax(-1), experts_TK, self._mean_over_ranks)
            self._losses.append(loss)

        return collect

    def take_loss(self) -> Tensor | float:
        """The factored balance loss of the last forward pass, summed over the layers."""
        losses, self._losses = self._losses, []
        return self._factor * torch.stack(losses).sum() if losses else 0.0

    def counts(self) -> Tensor | None:
        """This rank's tokens per layer and expert since `finish_step`, stacked; None for a dense model."""
        return torch.stack([watched.counts_E for watched in self._watched]) if self._watched else None

    @torch.no_grad()
    def finish_step(self, counts_LE: Tensor | None, speed: float) -> None:
        """Move the selection biases by `speed` against the loads of all ranks, and start counting anew.

        DeepSeek-V3, section 2.1.2: overloaded experts lose `speed`, underloaded ones gain it. `counts_LE` None (a step
        that was thrown away) moves nothing.
        """
        for number, watched in enumerate(self._watched):
            if counts_LE is not None and watched.bias_E is not None and speed:
                counts_E = counts_LE[number]
                watched.bias_E += speed * torch.sign(counts_E.mean() - counts_E)
            watched.counts_E.zero_()

    @property
    def layers(self) -> list[int]:
        """Numbers of the watched layers."""
        return [watched.layer for watched in self._watched]


def load_statistics(counts_E: Tensor) -> dict[str, float]:
    """Least and greatest share of an even load, and the coefficient of variation (0 is perfect balance)."""
    share_E = counts_E.double() / counts_E.double().mean()
    return {"min": share_E.min().item(), "max": share_E.max().item(), "cv": share_E.std(correction=0).item()}
