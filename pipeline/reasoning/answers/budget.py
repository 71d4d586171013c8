"""The work that one judgement may do, counted rather than timed: a busy machine changes no verdict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["MOST_WORK", "OutOfBudgetError", "bounded", "spend"]

MOST_WORK = 15_000
"""Products of terms, and what costs as much; about a third of a second."""


class OutOfBudgetError(ValueError):
    """A judgement would do more work than it may."""


_left: ContextVar[int | None] = ContextVar("work left", default=None)


@contextmanager
def bounded() -> Iterator[None]:
    """All that is spent inside counts together; a budget within another one is the same."""
    if _left.get() is not None:
        yield
        return
    token = _left.set(MOST_WORK)
    try:
        yield
    finally:
        _left.reset(token)


def spend(amount: int) -> None:
    """Count work before it is done.

    Raises:
        OutOfBudgetError: there is not as much left.
    """
    left = _left.get()
    if left is None:
        return
    _left.set(left - amount)
    if left < amount:
        raise OutOfBudgetError("too much to work out")
