"""Modules that compute with a weight that stays and a low-rank adapter beside it (`model.training.lora`).

A linear layer computes ``W x + s B (A x)``, and so do stacked experts for the tokens of each
(`model.training.factored`): ``B A`` is never made. With `held` the weights themselves are kept in 8- or 4-bit codes
(QLoRA, arXiv 2305.14314) and decoded for each product, again in the backward pass. Codes are those of
`model.architecture.grid`: 32 weights of a row share a float16 scale.

Whoever reads an adapted module's ``weight`` gets the whole ``W + s B A``, so generation and export need not know.

Shapes: O outputs, I inputs, r rank, E experts.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.architecture.grid import GROUP, Grid, dequantize, round_to_nearest
from model.architecture.grouped import Routing, activated
from model.architecture.moe import RoutedExperts
from model.finetune_sections import Held, LoraConfig
from model.training.factored import Factored

__all__ = ["EXPERT_WEIGHTS", "AdaptedExperts", "AdaptedLinear", "HeldWeight"]

EXPERT_WEIGHTS = ("gate_up_proj", "down_proj")


class HeldWeight(nn.Module):
    """A frozen weight [..., O, I], as it is or in codes, which checkpoints leave out: they follow from the start."""

    codes: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor, held: Held) -> None:
        super().__init__()
        self.shape = weight.shape
        self.held = Held.FP32 if weight.shape[-1] % GROUP else held  # rows of other widths stay as they are
        if self.held is Held.FP32:
            self.plain = nn.Parameter(weight.detach(), requires_grad=False)
            return
        codes, scales = round_to_nearest(weight.detach(), Grid(held))
        if held is Held.Q4_0:
            codes = (codes[..., ::2] + 8).to(torch.uint8) | ((codes[..., 1::2] + 8).to(torch.uint8) << 4)
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)

    def forward(self) -> Tensor:
        """The weight."""
        if self.held is Held.FP32:
            return self.plain
        codes = self.codes
        if self.held is Held.Q4_0:
            codes = torch.stack((codes & 15, codes >> 4), -1).flatten(-2).to(torch.int8) - 8
        return dequantize(codes, self.scales)


class _HeldProduct(torch.autograd.Function):
    """``x W^T`` that keeps the codes for the backward pass, and not the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, held: HeldWeight) -> Tensor:
        ctx.held, ctx.dtype = held, x.dtype
        return F.linear(x, held().to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (dy,) = gradients
        return dy.to(ctx.dtype) @ ctx.held().to(ctx.dtype), None


def _drawn(shape: tuple[int, ...], generator: torch.Generator) -> nn.Parameter:
    """A as peft draws it: uniform within one over the root of the inputs."""
    bound = 1 / math.sqrt(shape[-1])
    return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)


class AdaptedLinear(nn.Linear):
    """A linear layer and its adapter."""

    base: HeldWeight
    lora_A: nn.Parameter
    lora_B: nn.Parameter
    scale: float

    @classmethod
    def take(cls, module: nn.Linear, config: LoraConfig, generator: torch.Generator) -> None:
        """Make `module` one, in its place."""
        outputs, inputs = module.weight.shape
        weight = module.weight.detach()
        del module.weight
        module.__class__ = cls
        module.base = HeldWeight(weight, config.held)
        module.lora_A = _drawn((config.rank, inputs), generator)
        module.lora_B = nn.Parameter(torch.zeros(outputs, config.rank))
        module.scale = config.alpha / config.rank  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name == "weight":
            return self.base() + self.scale * (self.lora_B @ self.lora_A)
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] to [..., O]."""
        if self.base.held is Held.FP32:
            y = F.linear(x, self.base(), self.bias)
        else:
            kind = x.device.type
            cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
            y = _HeldProduct.apply(x.to(cast), self.base)
            y = y if self.bias is None else y + self.bias
        return y + self.scale * F.linear(F.linear(x, self.lora_A), self.lora_B)

    def merge(self) -> None:
        """Become a plain linear layer."""
        weight = self.weight
        del self.base, self.lora_A, self.lora_B
        self.__class__ = nn.Linear  # type: ignore[assignment]
        self.weight = nn.Parameter(weight)

    def peft(self, prefix: str) -> dict[str, Tensor]:
        """A [r, I] and B [O, r] by peft's names: views, which `Adapters.read` writes into."""
        return {f"{prefix}.lora_A.weight": self.lora_A.data, f"{prefix}.lora_B.weight": self.lora_B.data}


class AdaptedExperts(RoutedExperts):
    """Stacked experts and the adapters of each."""

    bases: nn.ModuleDict
    lora_A: nn.ParameterDict
    lora_B: nn.ParameterDict
    experts: int
    scale: float

    @classmethod
    def take(cls, module: RoutedExperts, config: LoraConfig, generator: torch.Generator) -> None:
        """Make `module` one, in its place."""
        weights = {name: getattr(module, name).detach() for name in EXPERT_WEIGHTS}
        for name in EXPERT_WEIGHTS:
            delattr(module, name)
        module.__class__ = cls
        module.experts = len(weights[EXPERT_WEIGHTS[0]])  # type: ignore[assignment]
        module.bases = nn.ModuleDict({name: HeldWeight(weight, config.held) for name, weight in weights.items()})
        # peft's layouts: A [r E, I] expert by expert, B [O, r E] rank by rank
        module.lora_A = nn.ParameterDict(
            {name: _drawn((config.rank * len(w), w.shape[2]), generator) for name, w in weights.items()}
        )
        module.lora_B = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(w.shape[1], config.rank * len(w))) for name, w in weights.items()}
        )
        module.scale = config.alpha / config.rank  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name not in EXPERT_WEIGHTS:
            return super().__getattr__(name)
        a_ErI, b_EOr = self._factors(name)
        return torch.baddbmm(self.bases[name](), b_EOr, a_ErI, alpha=self.scale)

    def _factors(self, name: str) -> tuple[Tensor, Tensor]:
        return (
            self.lora_A[name].unflatten(0, (self.experts, -1)),
            self.lora_B[name].unflatten(1, (-1, self.experts)).permute(2, 0, 1),
        )

    def forward(self, x_TD: Tensor, gates_TK: Tensor, experts_TK: Tensor) -> Tensor:
        """The gated sum [T, D] of the chosen experts' outputs. Beside weights in codes, which are there to save memory,
        the inner layers are computed again in the backward pass."""
        if torch.is_grad_enabled() and any(base.held is not Held.FP32 for base in self.bases.values()):
            y_TD: Tensor = checkpoint(
                self._sum, x_TD, gates_TK, experts_TK, use_reentrant=False, preserve_rng_state=False
            )
            return y_TD
        return self._sum(x_TD, gates_TK, experts_TK)

    def _sum(self, x_TD: Tensor, gates_TK: Tensor, experts_TK: Tensor) -> Tensor:
        kind = x_TD.device.type
        x_TD = x_TD.to(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_TD.dtype)
        routing = Routing(experts_TK.flatten(), self.experts, experts_TK.shape[1])
        gates_t1 = gates_TK.flatten().to(x_TD.dtype)[routing.order_t, None]
        gate_up_tX = self._product("gate_up_proj", x_TD, routing, is_sorted=False)
        inner_tF = activated(gate_up_tX, gates_t1)
        return routing.summed(self._product("down_proj", inner_tF, routing, is_sorted=True), x_TD)

    def _product(self, name: str, x: Tensor, routing: Routing, *, is_sorted: bool) -> Tensor:
        y_tO: Tensor = Factored.apply(x, *self._factors(name), self.bases[name], self.scale, routing, is_sorted)
        return y_tO

    def merge(self) -> None:
        """Become plain experts."""
        weights = {name: getattr(self, name) for name in EXPERT_WEIGHTS}
        del self.bases, self.lora_A, self.lora_B, self.experts
        self.__class__ = RoutedExperts  # type: ignore[assignment]
        for name, weight in weights.items():
            setattr(self, name, nn.Parameter(weight))

    def peft(self, prefix: str) -> dict[str, Tensor]:
        """By peft's names, which wraps the second weight around the first (`EXPERT_WEIGHTS`)."""
        places = (f"{prefix}.base_layer", prefix)
        return {
            f"{place}.lora_{side}.weight": factors[name].data
            for name, place in zip(EXPERT_WEIGHTS, places, strict=True)
            for side, factors in (("A", self.lora_A), ("B", self.lora_B))
        }
