"""How long a phase still takes, by what it has done lately; nothing as long as that is a guess."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TimeLeft"]

HALF_LIFE = 20.0
"""Seconds after which work counts half in the rate."""
KNOWN_SHARE, KNOWN_SECONDS, STEADY_SECONDS = 0.02, 30.0, 2.0
"""A rate is told that stands on this share of the phase or on this many seconds, and always on this many."""


@dataclass
class TimeLeft:
    """The rate of one phase, from its first sign of progress on: what came before was starting up, and says nothing of
    the work. Times are one clock's, in seconds; where it goes back, no time has passed."""

    total: float
    done: float = 0.0
    _first: float | None = None
    _seen: float = 0.0
    """When the rate was last brought up to date."""
    _work: float = 0.0
    _seconds: float = 0.0
    """Work and the time it took, both of them fading."""
    _measured: float = 0.0
    """All work since the first sign."""

    def advance(self, amount: float, now: float) -> None:
        """So much was done since the last time."""
        self.done += amount
        if self._first is None:  # when this piece was begun is not known
            self._first = self._seen = now
            return
        now = max(now, self._seen)
        faded = 0.5 ** ((now - self._seen) / HALF_LIFE)
        self._work = self._work * faded + amount
        self._seconds = self._seconds * faded + now - self._seen
        self._seen = now
        self._measured += amount

    def seconds(self, now: float) -> float | None:
        """Seconds left at `now`; None as long as it cannot be known."""
        if self._first is None or not self._work or now - self._first < STEADY_SECONDS:
            return None
        if self._measured < KNOWN_SHARE * self.total and now - self._first < KNOWN_SECONDS:
            return None
        return max(0.0, self.total - self.done) * (self._seconds + now - self._seen) / self._work
