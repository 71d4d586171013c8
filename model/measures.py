"""What is made of answers: shares with their intervals, pass@k, maj@k."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

__all__ = ["majority", "mean_interval", "pass_at_k", "wilson"]


def wilson(right: float, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Limits of the interval for a share of `right` in `total` (Wilson, 1927): sound for few and for extreme cases."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Limits of the interval for the mean of values in [0, 1], one per problem (normal approximation)."""
    if len(values) < 2:
        return 0.0, 1.0
    half = NormalDist().inv_cdf((1 + confidence) / 2) * stdev(values) / math.sqrt(len(values))
    return max(0.0, fmean(values) - half), min(1.0, fmean(values) + half)


def pass_at_k(right: int, samples: int, k: int) -> float:
    """Chance that one of `k` of the `samples` answers is among the `right` ones: unbiased (arXiv 2107.03374, Eq 1).

    ValueError when there are fewer samples than k.
    """
    if k > samples:
        raise ValueError(f"pass@{k} of {samples} samples")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def majority(values: Sequence[str]) -> int:
    """Place of the first answer of the value that most answers give (maj@k; self-consistency); ties go to the first.

    Answers without a value do not vote, unless all are such.
    """
    counts = Counter(value for value in values if value)
    if not counts:
        return 0
    best = max(counts.values())
    return next(place for place, value in enumerate(values) if value and counts[value] == best)
