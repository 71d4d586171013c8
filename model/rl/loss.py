"""The objective of group relative policy optimization (GRPO; DeepSeekMath, arXiv 2402.03300, section 4.1).

Answers of all lengths lie end to end, so there is no padding to mask: token n counts with `weights_N`, one over the
number of answers and over the length of its own, which makes sums over tokens the paper's mean of means.

Shapes: Q questions, G answers to each, N tokens of answers, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GrpoTerms", "group_advantages", "grpo_loss", "log_probabilities"]


@dataclass(frozen=True)
class GrpoTerms:
    """A loss to take the gradient of, and what to watch, each the weighted sum over the tokens."""

    loss: Tensor
    kl: Tensor
    """Divergence from the reference, in nats per token."""
    clipped: Tensor
    """Share of tokens without gradient, for their ratio has moved far enough already."""


def group_advantages(rewards_QG: Tensor) -> Tensor:
    """How much better than its group each answer is, in standard deviations (outcome supervision, section 4.1.2).

    A group whose answers earn all the same teaches nothing: its advantages are 0.
    """
    centred_QG = rewards_QG - rewards_QG.mean(1, keepdim=True)
    spread_Q1 = rewards_QG.std(1, keepdim=True, correction=0)
    return torch.where(spread_Q1 > 1e-6, centred_QG / spread_Q1.clamp(min=1e-6), 0.0)


def grpo_loss(
    logprobs_N: Tensor,
    old_N: Tensor,
    reference_N: Tensor | None,
    advantages_N: Tensor,
    weights_N: Tensor,
    *,
    clip: float,
    kl_weight: float,
) -> GrpoTerms:
    """The negative of Eq 3: clipped advantages, less the divergence from the reference.

    The divergence is Eq 4, ``ref/pi - log(ref/pi) - 1``: never negative, and right in the mean.

    Args:
        logprobs_N: of the tokens under the policy, with gradient.
        old_N: under the policy that wrote the answers.
        reference_N: under the reference model; None leaves the divergence out.
        advantages_N: of the token's answer.
        weights_N: see the module.
        clip: epsilon.
        kl_weight: beta.
    """
    ratio_N = (logprobs_N - old_N).exp()
    gain_N = ratio_N * advantages_N
    bounded_N = ratio_N.clamp(1 - clip, 1 + clip) * advantages_N
    loss = -(weights_N * torch.minimum(gain_N, bounded_N)).sum()
    kl = torch.zeros_like(loss)
    if reference_N is not None:
        log_ratio_N = reference_N - logprobs_N
        kl = (weights_N * (log_ratio_N.exp() - log_ratio_N - 1)).sum()
        loss = loss + kl_weight * kl
    clipped = (weights_N * (bounded_N < gain_N)).sum()
    return GrpoTerms(loss, kl.detach(), clipped.detach())


def log_probabilities(logits_NV: Tensor, tokens_N: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities [N] of the tokens, and the entropies [N] of the distributions, in nats, without gradient."""
    scale_N = logits_NV.logsumexp(1)
    logprobs_N = logits_NV.gather(1, tokens_N[:, None])[:, 0] - scale_N
    with torch.no_grad():
        entropy_N = scale_N - (logits_NV.softmax(1) * logits_NV).sum(1)
    return logprobs_N, entropy_N
