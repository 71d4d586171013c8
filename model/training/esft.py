"""Expert-selective fine-tuning: only the routed experts that a task uses are trained (ESFT, arXiv 2407.01906).

Some rows of the task are read and the use of every expert is measured: its share of the tokens' choices, or of the
gate values. In each layer the most used ones, until together they reach the threshold, learn; all other weights keep
their very bytes. Router, shared experts, attention and embeddings stay as they are (section 3.2), so what the model
could do elsewhere is little disturbed.

Shapes: T tokens, E routed experts, K experts per token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from infra import events
from infra.errors import UserError
from model.architecture.devices import world_size
from model.architecture.transformer import Transformer
from model.finetune_sections import EsftScore, SftConfig
from model.training.chats import ChatBatches

__all__ = ["ChosenExperts", "expert_use", "frozen_gates", "select_experts"]


@dataclass(frozen=True)
class ChosenExperts:
    """The use of the experts of each layer, and those that are trained."""

    use: dict[int, list[float]]
    """Layer to the share of each expert; a layer's shares add up to 1."""
    chosen: dict[int, list[int]]
    trained: int
    """Parameters that move."""
    total: int

    def report(self) -> dict[str, dict[str, list[float] | list[int]]]:
        """For ``experts.json``: by layer, the use of every expert, and the numbers of those that were trained."""
        return {
            str(layer): {"use": [round(share, 6) for share in use], "trained": self.chosen[layer]}
            for layer, use in self.use.items()
        }

    def shares(self) -> dict[str, float]:
        """What was trained, for the stage's metrics."""
        count = sum(map(len, self.chosen.values()))
        return {
            "trained_experts": count,
            "trained_experts_share": round(count / sum(map(len, self.use.values())), 4),
            "trained_parameters": self.trained,
            "trained_parameters_share": round(self.trained / self.total, 4),
        }


def select_experts(model: Transformer, source: ChatBatches, config: SftConfig, pad: int) -> ChosenExperts:
    """Measure the use of the experts on rows of `source`, and leave trainable in `model` only the chosen ones.

    Raises:
        UserError: a model without experts, or more than one rank.
    """
    if not model.config.moe_layers:
        raise UserError("sft.trained: experts wants a model with routed experts; this one is dense")
    if world_size() > 1:
        raise UserError("sft.trained: experts runs on one rank; set execution.stages.sft.ranks to 1")
    rows = min(config.esft_rows, source.rows)
    steps = -(-rows // source.batch_size)
    tokens = torch.cat([source.batch(step, 0, 1).tokens_BT for step in range(steps)])[:rows]
    documents = torch.cat(
        [part for step in range(steps) if (part := source.batch(step, 0, 1).documents_BT) is not None]
    )[:rows]
    use = expert_use(model, tokens, documents, tokens != pad, config.esft_score)
    chosen = {layer: _most_used(use_E, config.esft_threshold) for layer, use_E in use.items()}
    model.requires_grad_(False)
    trained = 0
    for layer, experts in chosen.items():
        routed: Any = model.get_submodule(f"model.layers.{layer}.mlp.experts")
        for weight in (routed.gate_up_proj, routed.down_proj):
            trained += len(experts) * weight[0].numel()
            weight.requires_grad_(True)
            weight.register_hook(_only(experts, len(weight)))
    found = ChosenExperts(
        {layer: use_E.tolist() for layer, use_E in use.items()},
        chosen,
        trained,
        sum(parameter.numel() for parameter in model.parameters()),
    )
    share = found.shares()
    events.note(
        f"training {share['trained_experts']} experts, {share['trained_experts_share']:.0%} of all, "
        f"{share['trained_parameters_share']:.0%} of the parameters"
    )
    return found


def frozen_gates(config: SftConfig) -> SftConfig:
    """`config` without what would move weights that have no gradient: decay, balance loss and selection bias."""
    return config.model_copy(update={"weight_decay": 0.0, "balance_loss": 0.0, "bias_update_speed": 0.0})


@torch.no_grad()
def expert_use(
    model: Transformer, tokens_BT: Tensor, documents_BT: Tensor | None, counted_BT: Tensor, score: EsftScore
) -> dict[int, Tensor]:
    """Layer to the share [E] of each expert, over the tokens where `counted_BT` is true."""
    totals = {layer: torch.zeros(model.config.n_routed_experts) for layer in model.config.moe_layers}
    counted: Tensor = counted_BT[:1]
    with _watching(model) as seen:
        for row in range(len(tokens_BT)):
            counted = counted_BT[row]
            model.hidden(tokens_BT[row : row + 1], None if documents_BT is None else documents_BT[row : row + 1])
            for layer, (gates_TK, experts_TK) in seen.items():
                gates, experts = gates_TK[counted].flatten(), experts_TK[counted].flatten()
                weight = torch.ones_like(gates) if score is EsftScore.TOKEN else gates
                totals[layer].index_add_(0, experts, weight.float())
    return {layer: total / total.sum() for layer, total in totals.items()}


@contextmanager
def _watching(model: nn.Module) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """What each gate last gave: gate values and experts [T, K]."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    handles = []
    for layer in model.config.moe_layers:  # type: ignore[union-attr]

        def keep(module: nn.Module, inputs: Any, outputs: tuple[Tensor, Tensor], layer: int = layer) -> None:
            seen[layer] = outputs

        handles.append(model.get_submodule(f"model.layers.{layer}.mlp.gate").register_forward_hook(keep))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _most_used(use_E: Tensor, threshold: float) -> list[int]:
    """The fewest experts whose shares reach `threshold`, the most used first; ties go to the lower number."""
    chosen: list[int] = []
    reached = 0.0
    for expert in sorted(range(len(use_E)), key=lambda expert: (-float(use_E[expert]), expert)):
        if reached >= threshold - 1e-9:
            break
        chosen.append(expert)
        reached += float(use_E[expert])
    return sorted(chosen)


def _only(experts: list[int], total: int) -> Any:
    """A gradient hook that lets through the slices of `experts`: AdamW leaves a weight of zero gradient as it is."""
    mask = torch.zeros(total, 1, 1)
    mask[experts] = 1.0

    def hook(gradient: Tensor) -> Tensor:
        return gradient * mask.to(gradient.device)

    return hook
