"""Takes out the routed experts that a model can best do without: a smaller file for as much work per token.

What an expert is worth is seen on calibration rows, layer by layer, in one pass of the whole model. As many go from
every layer, so that the files load wherever the model's own did; from every group of experts too, where the gate
limits a token to some groups. The pruned model is the whole one whose gates never choose what is gone.

Shapes: T tokens, K experts per token, E routed experts, n tokens of one expert, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.architecture.config import ModelConfig
from model.architecture.moe import RoutedExperts
from model.architecture.skeleton import model_of
from model.architecture.transformer import Transformer
from model.release.rows import CalibrationBatch
from model.sections import PruneBy

__all__ = ["Usage", "usage", "without", "worth_keeping"]


@dataclass(frozen=True)
class Usage:
    """What calibration tokens made of each expert of a layer; float64."""

    tokens_E: Tensor
    """How many chose it."""
    sizes_E: Tensor
    """Sum over them of the Euclidean norm of its output."""
    gated_E: Tensor
    """The same, each times the token's gate."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.tokens_E + other.tokens_E, self.sizes_E + other.sizes_E, self.gated_E + other.gated_E)

    def score(self, by: PruneBy) -> Tensor:
        """What each expert is worth [E]; nothing where no token chose it."""
        if by is PruneBy.FREQUENCY:
            return self.tokens_E
        return (self.gated_E if by is PruneBy.REAP else self.sizes_E) / self.tokens_E.clamp(min=1)


@torch.no_grad()
def usage(model: Transformer, batches: Sequence[CalibrationBatch]) -> dict[int, Usage]:
    """By layer. Gates are those that the model works with: normalised over the chosen experts where it does that."""
    nothing = torch.zeros(model.config.n_routed_experts, dtype=torch.float64)
    found = {layer: Usage(nothing, nothing, nothing) for layer in model.config.moe_layers}
    valid_T = torch.empty(0, dtype=torch.bool)

    def look_at(layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(experts: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(experts, RoutedExperts)
            found[layer] += _used(experts, *(each[valid_T] for each in inputs))

        return look

    handles = [
        model.get_submodule(f"model.layers.{layer}.mlp.experts").register_forward_pre_hook(look_at(layer))
        for layer in found
    ]
    for batch in batches:
        valid_T = batch.valid_BT.flatten()  # the hooks look at it
        model.hidden(batch.tokens_BT, batch.documents_BT)
    for handle in handles:
        handle.remove()
    return found


def _used(experts: RoutedExperts, x_TD: Tensor, gates_TK: Tensor, experts_TK: Tensor) -> Usage:
    columns: list[tuple[float, float, float]] = []
    for expert in range(len(experts.down_proj)):
        rows_n, place_n = (experts_TK == expert).nonzero(as_tuple=True)
        out_nD = F.linear(experts.inner(expert, x_TD[rows_n]), experts.down_proj[expert])
        sizes_n = out_nD.double().norm(dim=-1)
        gated = float((sizes_n * gates_TK[rows_n, place_n]).sum())
        columns.append((float(len(rows_n)), float(sizes_n.sum()), gated))
    return Usage(*torch.tensor(columns, dtype=torch.float64).unbind(1))


def worth_keeping(scores_E: Tensor, left: int, groups: int = 1) -> Tensor:
    """Numbers of the `left` experts of the highest scores, as many of each group, ascending: equals go from the end."""
    order_GE = scores_E.unflatten(0, (groups, -1)).argsort(dim=1, descending=True, stable=True)
    first_G1 = torch.arange(groups)[:, None] * order_GE.shape[1]
    return (order_GE[:, : left // groups] + first_G1).flatten().sort().values


@torch.no_grad()
def without(model: Transformer, config: ModelConfig, kept: Mapping[int, Tensor]) -> Transformer:
    """A model of `config` with copies of the weights of `model`, of the experts kept by layer.

    Layers of multi-token prediction are left out: their experts were not looked at.
    """
    left_out = tuple(f"model.layers.{number}." for number in model.config.prediction_layers)
    weights = {name: each.clone() for name, each in model.state_dict().items() if not name.startswith(left_out)}
    for layer, numbers in kept.items():
        prefix = f"model.layers.{layer}.mlp."
        for name in weights:
            if name.startswith((f"{prefix}gate.", f"{prefix}experts.")):
                weights[name] = weights[name][numbers]
    return model_of(config, weights)
