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

from model.config import ModelConfig

__all__ = ["FeedForward", "Gate", "MixtureOfExperts", "RoutedExperts", "expert_balance_loss", "sequence_balance_loss"]


class FeedForward(nn.Module):
    """SwiGLU: the dense layers and the shared experts."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, width, bias=False)
        self.up_proj = nn.Linear(hidden, width, bias=False)
        self.down_proj = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


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
        self.weight = nn.Parameter(torch.zeros(config.n_routed_experts, config.hidden_size))
        if self.is_sigmoid:
            self.e_score_correction_bias: Tensor
            self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))

    def scores(self, x_TD: Tensor) -> Tensor:
        """Affinity [T, E] of every token to every routed expert."""
        logits_TE = F.linear(x_TD.float(), self.weight.float())
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
        """The gated sum [T, D] of the chosen experts' outputs.

        A loop over the unbound weights trains as fast as grouped matrix products on a CPU and, unlike indexing, does
        not zero a full-size gradient per expert.
        """
        order = experts_TK.flatten().argsort(stable=True)
        counts = experts_TK.flatten().bincount(minlength=len(self.gate_up_proj)).tolist()
        tokens = order // experts_TK.shape[1]
        outputs = []
        weights = zip(self.gate_up_proj.unbind(0), self.down_proj.unbind(0), strict=True)
        # index_select, for the gradient of x_TD[tokens] is added up in any order by several threads (and 20x slower)
        for x_tD, (up_2FD, down_DF) in zip(x_TD.index_select(0, tokens).split(counts), weights, strict=True):
            gate, up = F.linear(x_tD, up_2FD).chunk(2, dim=-1)
            outputs.append(F.linear(F.silu(gate) * up, down_DF))
        y_tD = torch.cat(outputs) * gates_TK.flatten()[order, None].to(x_TD.dtype)
        return torch.zeros_like(x_TD).index_add(0, tokens, y_tD)


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
        x_TD = x_BLD.flatten(0, -2)
        y_BLD = self.experts(x_TD, *self.gate(x_TD)).view_as(x_BLD)
        return y_BLD if self.shared_experts is None else y_BLD + self.shared_experts(x_BLD)


def expert_balance_loss(
    scores_TE: Tensor, experts_TK: Tensor, mean_over_ranks: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Expert-level balance loss without its factor alpha1 (DeepSeekMoE, Eq 12-14); 1 when all experts are used alike.

    f counts choices over all tokens of the batch, so it is averaged over the ranks: a rank-local f would make the
    gradient depend on how many ranks share the batch. P needs no such care: gradients are averaged anyway.
    """
    tokens, experts = scores_TE.shape
    f_E = experts_TK.flatten().bincount(minlength=experts).float() * (experts / (experts_TK.shape[1] * tokens))
    if mean_over_ranks is not None:
        f_E = mean_over_ranks(f_E)
    return (f_E * scores_TE.mean(0)).sum()


def sequence_balance_loss(scores_TE: Tensor, top_k: int, rows: int) -> Tensor:
    """Complementary sequence-wise balance loss without its factor alpha (DeepSeek-V3, Eq 17-20), mean over rows.

    Each sequence is judged alone, by the experts its scores would choose without the bias.
    """
    scores_BLE = scores_TE.unflatten(0, (rows, -1))
    _, length, experts = scores_BLE.shape
    chosen_BLE = torch.zeros_like(scores_BLE).scatter_(2, scores_BLE.detach().topk(top_k).indices, 1.0)
    f_BE = chosen_BLE.sum(1) * (experts / (top_k * length))
    p_BE = (scores_BLE / scores_BLE.sum(-1, keepdim=True)).mean(1)
    return (f_BE * p_BE).sum(-1).mean()
