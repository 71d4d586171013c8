"""The objective of group relative policy optimization (GRPO; DeepSeekMath, arXiv 2402.03300, section 4.1), and what
DAPO (arXiv 2503.14476) and Dr. GRPO (arXiv 2503.20783) change of it.

Answers of all lengths lie end to end, so there is no padding to mask: token n counts with `weights_N`. In GRPO that is
one over the number of answers and over the length of its own, which makes sums over tokens the paper's mean of means.

Shapes: Q questions, G answers to each, N tokens of answers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.finetune_sections import Advantage, LossNormalisation

__all__ = ["GrpoTerms", "group_advantages", "grpo_loss", "log_probabilities", "reverse_divergence", "token_weight"]


@dataclass(frozen=True)
class GrpoTerms:
    """A loss to take the gradient of, and what to watch, each the weighted sum over the tokens."""

    loss: Tensor
    kl: Tensor
    """Divergence from the reference, in nats per token."""
    clipped: Tensor
    """Share of tokens without gradient, for their ratio has moved far enough already."""


def group_advantages(rewards_QG: Tensor, advantage: Advantage = Advantage.STD) -> Tensor:
    """How much better than its group each answer is: in standard deviations (outcome supervision, section 4.1.2), or
    in units of reward (Dr. GRPO, section 3.2).

    A group whose answers earn all the same teaches nothing: its advantages are 0.
    """
    centred_QG = rewards_QG - rewards_QG.mean(1, keepdim=True)
    spread_Q1 = rewards_QG.std(1, keepdim=True, correction=0)
    scale_Q1 = spread_Q1.clamp(min=1e-6) if advantage is Advantage.STD else 1.0
    return torch.where(spread_Q1 > 1e-6, centred_QG / scale_Q1, 0.0)


def token_weight(lengths: Sequence[int], normalisation: LossNormalisation, longest: int) -> Callable[[int], float]:
    """What each token of an answer counts, by the answer's length, in an update of answers of `lengths` tokens, none
    of which may be longer than `longest`."""
    count = len(lengths)
    match normalisation:
        case LossNormalisation.ANSWER:
            return lambda length: 1 / (count * length)
        case LossNormalisation.TOKEN:
            alike = 1 / sum(lengths)
        case LossNormalisation.CONSTANT:
            alike = 1 / (count * longest)
    return lambda length: alike


def grpo_loss(
    logprobs_N: Tensor,
    old_N: Tensor,
    reference_N: Tensor | None,
    advantages_N: Tensor,
    weights_N: Tensor,
    *,
    clip: float,
    kl_weight: float,
    clip_high: float | None = None,
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
        clip_high: epsilon upwards, where it is another (DAPO, Eq 10).
    """
    ratio_N = (logprobs_N - old_N).exp()
    gain_N = ratio_N * advantages_N
    bounded_N = ratio_N.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high)) * advantages_N
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


def reverse_divergence(student_NV: Tensor, teacher_NV: Tensor) -> tuple[Tensor, Tensor]:
    """How far the student's distributions are from the teacher's, KL(student || teacher) [N], and their entropies [N]
    without gradient, in nats, from logits of both."""
    log_p_NV, log_q_NV = student_NV.log_softmax(1), teacher_NV.log_softmax(1)
    p_NV = log_p_NV.exp()
    divergence_N = (p_NV * (log_p_NV - log_q_NV)).sum(1)
    return divergence_N, -(p_NV * log_p_NV).sum(1).detach()
