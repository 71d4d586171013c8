"""How the threads of a computation wait for one another."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["patience"]

SPINS = "10000"
"""Some tenths of a millisecond: longer than what lies between two operations of a step, shorter than a turn that the
scheduler gives to another program."""
CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def patience(environment: Mapping[str, str]) -> dict[str, str]:
    """What to add to a process's environment, before it loads torch, so that its threads share cores with others.

    OpenMP's threads meet behind every operation. GNU's, torch's on Linux, spin there for as long as the slowest takes:
    where another program has one of the cores, each operation waits until the scheduler gives it back, and a training
    step takes some thirty times as long (docs/experiments.md, "Beside other programs"). Told to sleep soon, they are
    woken at once. Nothing is added where the user has chosen.
    """
    return {} if environment.keys() & set(CHOICES) else {"GOMP_SPINCOUNT": SPINS}
