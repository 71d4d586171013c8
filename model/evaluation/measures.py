"""What is made of answers: shares with their intervals, pass@k, maj@k."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import NormalDist

__all__ = ["majority", "mean_interval", "pass_at_k", "wilson"]

Z = NormalDist().inv_cdf(0.975)
"""Standard deviations on either side of a mean that 95 % lie within."""


def wilson(right: float, total: int) -> tuple[float, float]:
    """Limits of the 95 % interval for a share of `right` in `total` (Wilson, 1927), sound for few and extreme cases."""
    share = right / total
    middle = (share + Z * Z / (2 * total)) / (1 + Z * Z / total)
    half = Z / (1 + Z * Z / total) * math.sqrt(share * (1 - share) / total + Z * Z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Limits of the 95 % interval for the mean of values in [0, 1], one per problem.

    Agresti and Coull's (1998), carried over from shares to means: z^2/2 zeros and as many ones are added to the values,
    so that few values, or equal ones, do not look certain.
    """
    total, added = len(values) + Z * Z, Z * Z / 2
    mean = (sum(values) + added) / total
    spread = sum((value - mean) ** 2 for value in values) + added * (mean**2 + (1 - mean) ** 2)
    half = Z * math.sqrt(spread) / total
    return max(0.0, mean - half), min(1.0, mean + half)


def pass_at_k(right: int, samples: int, k: int) -> float:
    """Chance that one of `k` of the `samples` answers is among the `right` ones: unbiased (arXiv 2107.03374, Eq 1).

    ValueError when there are fewer samples than k.
    """
    if k > samples:
        raise ValueError(f"pass@{k} of {samples} samples")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def majority(values: Sequence[str], same: Callable[[str, str], bool] = operator.eq) -> int:
    """Place of the first answer of the value that most answers give (maj@k; self-consistency); ties go to the first.

    Answers without a value do not vote, unless all are such.

    Args:
        same: whether two answers give one value; asked of distinct texts only.
    """
    groups: list[tuple[str, int]] = []
    for value, votes in Counter(value for value in values if value).items():  # as they first come
        place = next((place for place, (first, _) in enumerate(groups) if same(first, value)), None)
        if place is None:
            groups.append((value, votes))
        else:
            groups[place] = (groups[place][0], groups[place][1] + votes)
    return values.index(max(groups, key=lambda group: group[1])[0]) if groups else 0
