"""Mixture of experts: the gate, the routed and shared experts, and the losses that keep the experts evenly used.

Tokens are sorted by expert and each expert works on its own slice; no token is ever dropped. The losses are plain
functions of the gate's scores, so that the training loop can apply them to this module and to its expert-parallel twin.

Shapes: T tokens (rows x positions), B rows, L positions, D hidden, E routed experts, K experts per token, F expert
width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.architecture.config import ModelConfig
from model.architecture.grouped import Routing, gated_experts

__all__ = [
    "FeedForward",
    "Gate",
    "MixtureOfExperts",
    "RoutedExperts",
    "device_balance_loss",
    "expert_balance_loss",
    "expert_counts",
    "sequence_balance_loss",
]


COUNTED_AT_ONCE = 1 << 27
"""Comparisons of choices with experts, of a byte each, on a GPU."""


class FeedForward(nn.Module):
    """SwiGLU: the dense layers and the shared experts."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, width, bias=False)
        self.up_proj = nn.Linear(hidden, width, bias=False)
        self.down_proj = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        return self.down_proj(self.inner(x))

    def inner(self, x: Tensor) -> Tensor:
        """What `down_proj` gets of [..., D]: [..., F]."""
        return F.silu(self.gate_proj(x)) * self.up_proj(x)


class Gate(nn.Module):
    """Chooses the experts of each token, in fp32.

    Softmax (DeepSeekMoE, Eq 9-11) or sigmoid with a selection bias (DeepSeek-V3, Eq 12-16); a token reaches only the
    `topk_group` best groups of experts, ranked by their best expert (V2) or by the sum of their two best (V3).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.groups, self.kept_groups = config.n_group, config.topk_group
        self.is_sigmoid = config.has_selection_bias
        self.is_normalised = config.norm_topk_prob
        self.scale = config.routed_scaling_factor
        self.logits_TE: Tensor | None = None
        """Of the last training pass, with their graph, for the balance losses; whoever reads them sets None."""
        self.weight = nn.Parameter(torch.zeros(config.n_routed_experts, config.hidden_size))
        if self.is_sigmoid:
            self.e_score_correction_bias: Tensor
            self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))

    def scores(self, x_TD: Tensor) -> Tensor:
        """Affinity [T, E] of every token to every routed expert."""
        with torch.autocast(x_TD.device.type, enabled=False):  # in 16 bits near-ties would choose other experts
            logits_TE = F.linear(x_TD.float(), self.weight.float())
        self.logits_TE = logits_TE if torch.is_grad_enabled() else None
        return logits_TE.sigmoid() if self.is_sigmoid else logits_TE.softmax(dim=-1)

    def forward(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Gate values [T, K] and expert numbers [T, K]."""
        scores_TE = self.scores(x_TD)
        choice_TE = scores_TE.detach()
        if self.is_sigmoid:
            choice_TE = choice_TE + self.e_score_correction_bias
        if self.groups > 1:
            choice_TGe = choice_TE.unflatten(1, (self.groups, -1))
            best = choice_TGe.topk(2, dim=-1).values.sum(-1) if self.is_sigmoid else choice_TGe.amax(-1)
            kept_TG = torch.zeros_like(best, dtype=torch.bool).scatter_(1, best.topk(self.kept_groups).indices, True)
            choice_TE = choice_TGe.masked_fill(~kept_TG[:, :, None], float("-inf")).flatten(1)
        experts_TK = choice_TE.topk(self.top_k, dim=-1).indices
        gates_TK = scores_TE.gather(1, experts_TK)
        if self.is_normalised:
            gates_TK = gates_TK / (gates_TK.sum(dim=-1, keepdim=True) + 1e-20)
        return gates_TK * self.scale, experts_TK


class RoutedExperts(nn.Module):
    """All routed experts of a layer, in stacked weights."""

    def __init__(self, experts: int, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * width, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, width))

    def forward(self, x_TD: Tensor, gates_TK: Tensor, experts_TK: Tensor) -> Tensor:
        """The gated sum [T, D] of the chosen experts' outputs."""
        routing = Routing(experts_TK.flatten(), len(self.down_proj), experts_TK.shape[1])
        return gated_experts(x_TD, gates_TK.flatten(), routing, self.down_proj, self.gate_up_proj)

    def inner(self, expert: int, x_nD: Tensor) -> Tensor:
        """What `down_proj` of one expert gets of its n tokens: [n, F]."""
        gate_nF, up_nF = F.linear(x_nD, self.gate_up_proj[expert]).chunk(2, dim=-1)
        return F.silu(gate_nF) * up_nF


class MixtureOfExperts(nn.Module):
    """Shared experts plus gated routed experts (DeepSeekMoE, Eq 9)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Gate(config)
        self.experts = RoutedExperts(config.n_routed_experts, config.hidden_size, config.moe_intermediate_size)
        self.shared_experts = (
            FeedForward(config.hidden_size, config.moe_intermediate_size * config.n_shared_experts)
            if config.n_shared_experts
            else None
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """[B, L, D] to [B, L, D]."""
        y_BLD = self.routed(x_BLD)
        return y_BLD if self.shared_experts is None else y_BLD + self.shared_experts(x_BLD)

    def routed(self, x_BLD: Tensor) -> Tensor:
        """What the routed experts make of the same, alone."""
        x_TD = x_BLD.flatten(0, -2)
        y_TD: Tensor = self.experts(x_TD, *self.gate(x_TD))
        return y_TD.view_as(x_BLD)


def expert_counts(experts_TK: Tensor, experts: int) -> Tensor:
    """How often each of `experts` was chosen [E], int64."""
    chosen_t = experts_TK.flatten()
    return _counted(chosen_t, experts) if chosen_t.is_cuda else chosen_t.bincount(minlength=experts)


def _counted(chosen_t: Tensor, experts: int) -> Tensor:
    """The same without waiting for the device, as `bincount` does to know the largest number, and without sorting anew
    what the products have sorted: whole numbers that are added up give the same bits in any order."""
    numbers_E = torch.arange(experts, device=chosen_t.device, dtype=chosen_t.dtype)
    counts_E = torch.zeros(experts, device=chosen_t.device, dtype=torch.int64)
    for part_t in chosen_t.split(COUNTED_AT_ONCE // experts):
        counts_E += (part_t[:, None] == numbers_E).sum(0)
    return counts_E


def expert_balance_loss(
    shares_TE: Tensor, experts_TK: Tensor, mean_over_ranks: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Expert-level balance loss without its factor alpha1 (DeepSeekMoE, Eq 12-14); 1 when all experts are used alike.

    `shares_TE` are the scores of a softmax gate, or those of a sigmoid gate divided by their sum. f counts choices over
    all tokens of the micro-batch, so it is averaged over the ranks: a rank-local f would make the gradient depend on
    how many ranks share the batch. P needs no such care: gradients are averaged anyway.
    """
    f_E, p_E = _loads(shares_TE, experts_TK, mean_over_ranks)
    return (f_E * p_E).sum()


def device_balance_loss(
    shares_TE: Tensor,
    experts_TK: Tensor,
    devices: int,
    mean_over_ranks: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Device-level balance loss without its factor alpha2 (DeepSeekMoE, Eq 15-17); 1 when all devices are used alike.

    Neighbouring experts share a device. Where they really are does not matter: the loss is part of what is trained, so
    it must not depend on the layout of a run.
    """
    f_E, p_E = _loads(shares_TE, experts_TK, mean_over_ranks)
    return (f_E.unflatten(0, (devices, -1)).mean(1) * p_E.unflatten(0, (devices, -1)).sum(1)).sum()


def _loads(
    shares_TE: Tensor, experts_TK: Tensor, mean_over_ranks: Callable[[Tensor], Tensor] | None
) -> tuple[Tensor, Tensor]:
    """f (Eq 13: choices of each expert over those of an even load) and P (Eq 14: its mean score)."""
    tokens, experts = shares_TE.shape
    f_E = expert_counts(experts_TK, experts).float() * (experts / (experts_TK.shape[1] * tokens))
    return f_E if mean_over_ranks is None else mean_over_ranks(f_E), shares_TE.mean(0)


def sequence_balance_loss(shares_TE: Tensor, experts_TK: Tensor, rows: int) -> Tensor:
    """Sequence-wise balance loss without its factor alpha (DeepSeek-V3, Eq 17-20), mean over rows.

    Each sequence is judged alone, so the loss does not depend on micro-batches and ranks. `experts_TK` are the experts
    that the scores choose, which for V3 means without the selection bias (Eq 18).
    """
    shares_BLE = shares_TE.unflatten(0, (rows, -1))
    _, length, experts = shares_BLE.shape
    chosen_BX = experts_TK.reshape(rows, -1)
    counts_BE = torch.zeros(rows, experts, device=shares_TE.device)
    counts_BE.scatter_add_(1, chosen_BX, torch.ones_like(chosen_BX, dtype=counts_BE.dtype))
    f_BE = counts_BE * (experts / (experts_TK.shape[1] * length))
    return (f_BE * shares_BLE.mean(1)).sum(-1).mean()
