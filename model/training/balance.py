"""Watches the gates during training: balance losses, selection-bias updates, load per expert.

It hooks the gates from outside, so the same code serves the model's own `Gate` and the router that DeepSpeed's AutoEP
puts in its place (which has no balancing of its own).

Shapes: T tokens of this rank's micro-batch, E routed experts, K experts per token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.architecture.config import Family, ModelConfig
from model.architecture.moe import (
    Gate,
    MixtureOfExperts,
    device_balance_loss,
    expert_balance_loss,
    expert_counts,
    sequence_balance_loss,
)
from model.sections import BalanceScope, OptimizerConfig

__all__ = ["ExpertLoads", "GateWatch", "load_statistics"]

RECENT = 20
"""Steps whose loads are reported together."""


@dataclass
class _Watched:
    layer: int
    gate: Any
    bias_E: Tensor | None
    counts_E: Tensor
    logits_TE: Tensor | None = None

    def keep(self, linear: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Hook of the linear layer inside AutoEP's router."""
        self.logits_TE = output if torch.is_grad_enabled() else None

    def take_logits(self) -> Tensor:
        """The gate's own logits of this pass: under ZeRO-3 its weight is gone again when the gate has run."""
        holder: Any = self.gate if isinstance(self.gate, Gate) else self
        logits_TE, holder.logits_TE = holder.logits_TE, None
        assert logits_TE is not None, "the gate has not run"
        return logits_TE.float()


class GateWatch:
    """Collects balance losses and expert loads of all gates of a model while it is in training mode.

    `begin` a micro-batch before its forward pass and `take_loss` after it. A gate that runs outside of the two runs for
    the second time, in the backward pass of activation checkpointing, and is not counted again.

    Args:
        model: a `Transformer`, after AutoEP has replaced its layers if it has.
        architecture: of that model.
        config: factors and scope of the losses; losses of factor 0 are not computed.
        mean_over_ranks: averages a tensor over the ranks; needed by the losses over a batch alone.

    Raises:
        ValueError: `balance_devices` does not divide the routed experts.
    """

    def __init__(
        self,
        model: nn.Module,
        architecture: ModelConfig,
        config: OptimizerConfig,
        mean_over_ranks: Callable[[Tensor], Tensor],
    ) -> None:
        self._architecture, self._config = architecture, config
        self._is_sigmoid = architecture.has_selection_bias
        self._by_sequence = config.balance_scope is BalanceScope.SEQUENCE or (
            config.balance_scope is BalanceScope.AUTO and architecture.model_type is Family.DEEPSEEK_V3
        )
        self._mean_over_ranks = mean_over_ranks
        self._losses: list[Tensor] = []
        self._rows = self._last_rows = 0
        self._watched: list[_Watched] = []
        if architecture.moe_layers and architecture.n_routed_experts % config.balance_devices:
            raise ValueError(
                f"balance_devices {config.balance_devices} does not divide the {architecture.n_routed_experts} "
                "routed experts"
            )
        for number in (*architecture.moe_layers, *architecture.prediction_layers):
            moe: Any = model.get_submodule(f"model.layers.{number}.mlp")
            is_plain = isinstance(moe, MixtureOfExperts)
            gate: Any = moe.gate if is_plain else moe.router
            bias_E = gate.e_score_correction_bias if architecture.has_selection_bias else None
            device = next(gate.parameters()).device
            watched = _Watched(number, gate, bias_E, torch.zeros(architecture.n_routed_experts, device=device))
            if not is_plain:
                gate.gate.register_forward_hook(watched.keep)
            self._watched.append(watched)
            gate.register_forward_hook(self._hook(watched))

    def begin(self, rows: int) -> None:
        """A micro-batch of `rows` sequences of this rank comes next."""
        self._rows = self._last_rows = rows

    def _hook(self, watched: _Watched) -> Callable[..., None]:
        def collect(gate: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
            if not torch.is_grad_enabled():
                return
            # A recomputation has to save the tensors that the first computation saved, so it ends up here too.
            loss = self._loss(watched.take_logits(), outputs[1])
            if not self._rows:
                return
            watched.counts_E += expert_counts(outputs[1], len(watched.counts_E))
            if loss is not None:
                self._losses.append(loss)

        return collect

    def _loss(self, logits_TE: Tensor, experts_TK: Tensor) -> Tensor | None:
        """The factored losses of one gate; None where nothing is asked for."""
        config = self._config
        if not (config.balance_loss or config.device_balance_loss or config.router_z_loss):
            return None
        scores_TE = logits_TE.sigmoid() if self._is_sigmoid else logits_TE.softmax(-1)
        shares_TE = scores_TE / scores_TE.sum(-1, keepdim=True) if self._is_sigmoid else scores_TE
        loss = shares_TE.new_zeros(())
        if config.balance_loss and self._by_sequence:
            chosen_TK = scores_TE.detach().topk(experts_TK.shape[1]).indices if self._is_sigmoid else experts_TK
            loss = loss + config.balance_loss * sequence_balance_loss(shares_TE, chosen_TK, self._last_rows)
        elif config.balance_loss:
            loss = loss + config.balance_loss * expert_balance_loss(shares_TE, experts_TK, self._mean_over_ranks)
        if config.device_balance_loss:
            loss = loss + config.device_balance_loss * device_balance_loss(
                shares_TE, experts_TK, config.balance_devices, self._mean_over_ranks
            )
        if config.router_z_loss:
            loss = loss + config.router_z_loss * logits_TE.logsumexp(-1).square().mean()
        return loss

    def take_loss(self) -> Tensor | float:
        """The factored balance loss of the micro-batch that `begin` announced, summed over the layers."""
        losses, self._losses = self._losses, []
        self._rows = 0
        return torch.stack(losses).sum() if losses else 0.0

    def counts(self) -> Tensor | None:
        """This rank's tokens per layer and expert since `finish_step`, stacked; None for a dense model."""
        return torch.stack([watched.counts_E for watched in self._watched]) if self._watched else None

    @torch.no_grad()
    def finish_step(self, counts_LE: Tensor | None, speed: float | Tensor) -> None:
        """Move the selection biases by `speed` against the loads of all ranks, and start counting anew.

        DeepSeek-V3, section 2.1.2: overloaded experts lose `speed`, underloaded ones gain it. A speed on the device (0
        for a step that was thrown away) is not waited for. `counts_LE` None moves nothing.
        """
        for number, watched in enumerate(self._watched):
            if counts_LE is not None and watched.bias_E is not None and (isinstance(speed, Tensor) or speed):
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


class ExpertLoads:
    """How evenly the experts of each layer are used: step by step, and over the last `RECENT` steps.

    Args:
        layers: numbers of the layers that have experts.
    """

    def __init__(self, layers: Sequence[int]) -> None:
        self._layers = layers
        self.counts: list[list[list[float]]] = []
        """Of the last steps, by layer and expert: what a snapshot keeps."""

    def add(self, counts_LE: Tensor | None) -> dict[str, float]:
        """The numbers of one step, for its row of the history."""
        if counts_LE is None:
            return {}
        self.counts = [*self.counts, counts_LE.tolist()][-RECENT:]
        return {
            f"expert_load_{name}/layer_{layer}": value
            for layer, counts_E in zip(self._layers, counts_LE, strict=True)
            for name, value in load_statistics(counts_E).items()
        }

    def recent(self) -> dict[str, dict[str, float]]:
        """Per layer, over the last steps: min and max as shares of an even load, and cv."""
        sums_LE = torch.tensor(self.counts).sum(0).unbind(0) if self.counts else ()
        return {str(layer): load_statistics(counts_E) for layer, counts_E in zip(self._layers, sums_LE, strict=True)}
