"""Losses over compute: a fitted law per arm, and how much compute an arm saves against another, with its interval.

All arms read the same text, so they share the loss that no model gets below (E); each has a scale and an exponent of
its own: L(C) = E + A C^-alpha. How much less compute an arm needs is read off its own law, close to budgets that
it was trained at: the budget at which it would have had the loss that the baseline reached at the top. Every seed gives
one such ratio, from losses that share data and initial weights; their logarithms give the interval (Student's t).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from flows.study.study import half_width

__all__ = ["Law", "Multiplier", "fit_laws", "multiplier"]

FLOORS = 40
"""Values of E that are tried, from nothing to just below the least loss."""
LEAST_BUDGETS = 4
"""From which on E is fitted: with fewer the law is a straight line in logarithms, and E nothing."""

Losses = Mapping[float, Mapping[int, float]]
"""By budget in FLOPs, and by seed."""


@dataclass(frozen=True)
class Law:
    """L(C) = floor + scale C^-exponent."""

    floor: float
    scale: float
    exponent: float

    def loss(self, flops: float) -> float:
        """At a budget."""
        return self.floor + self.scale * flops**-self.exponent

    def flops(self, loss: float) -> float:
        """The budget of a loss; infinite where the law never gets there."""
        if loss <= self.floor or self.exponent <= 0:
            return math.inf
        return float(((loss - self.floor) / self.scale) ** (-1 / self.exponent))


@dataclass(frozen=True)
class Multiplier:
    """How many times an arm's compute the baseline needs for the same loss, at the largest budget of both."""

    value: float
    low: float
    high: float
    """Of the 95 % interval; 0 and infinity with one seed."""
    by_seed: tuple[float, ...]


def fit_laws(arms: Mapping[str, Losses]) -> dict[str, Law]:
    """A law per arm from the means over its seeds, with the floor that serves all of them best.

    Raises:
        ValueError: an arm with fewer than two budgets.
    """
    means = {arm: {flops: statistics.fmean(by_seed.values()) for flops, by_seed in losses.items() if by_seed}
             for arm, losses in arms.items()}  # fmt: skip
    if any(len(points) < 2 for points in means.values()):
        raise ValueError("a law wants two budgets at least")
    least = min(loss for points in means.values() for loss in points.values())
    has_floor = min(len(points) for points in means.values()) >= LEAST_BUDGETS
    floors = [least * step / FLOORS for step in range(FLOORS)] if has_floor else [0.0]
    fits = {floor: {arm: _line(points, floor) for arm, points in means.items()} for floor in floors}
    best = min(floors, key=lambda floor: sum(_error(fits[floor][arm], points) for arm, points in means.items()))
    return fits[best]


def _line(points: Mapping[float, float], floor: float) -> Law:
    """Least squares in the logarithms of budget and loss above the floor."""
    xs = [math.log(flops) for flops in points]
    ys = [math.log(loss - floor) for loss in points.values()]
    slope, intercept = statistics.linear_regression(xs, ys)
    return Law(floor, math.exp(intercept), -slope)


def _error(law: Law, points: Mapping[float, float]) -> float:
    return sum((law.loss(flops) - loss) ** 2 for flops, loss in points.items())


def multiplier(arm: Law, losses: Mapping[int, float], baseline: Mapping[int, float], flops: float) -> Multiplier:
    """From the losses by seed of both at the budget `flops`, and the arm's law.

    Raises:
        ValueError: no seed in common.
    """
    seeds = sorted(losses.keys() & baseline.keys())
    if not seeds:
        raise ValueError("no seed in common")
    # The law's own value stands for the arm; a seed moves it by what separates the two in that seed.
    reached = arm.loss(flops)
    by_seed = tuple(flops / arm.flops(reached + baseline[seed] - losses[seed]) for seed in seeds)
    logs = [math.log(max(value, 1e-9)) for value in by_seed]
    middle, half = statistics.fmean(logs), half_width(logs)
    return Multiplier(math.exp(middle), math.exp(middle - half), math.exp(middle + half), by_seed)
