"""The order in which data come round: everything once per epoch, each epoch in an order of its own."""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["places_of_step"]


def places_of_step(step: int, per_step: int, total: int, seed: int) -> list[int]:
    """Which of `total` places a step (from 0) takes: a function of its number, so that a run resumes where it was."""
    places = (divmod(place, total) for place in range(step * per_step, (step + 1) * per_step))
    return [int(_order(epoch, total, seed)[place]) for epoch, place in places]


@functools.lru_cache(maxsize=16)  # a step may end one epoch and begin the next, of each kind of rows
def _order(epoch: int, total: int, seed: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(total)
