"""Ctrl-C and SIGTERM: both end a command in order, and say how it goes on."""

from __future__ import annotations

import signal
from types import FrameType

__all__ = ["Stop"]

GOES_ON = {
    "run": "finished stages are kept; the same command goes on from there",
    "study": "finished runs and stages are kept; the same command goes on from there",
    "rerun": "the store is as it was",
    "export": "nothing half written is left; the same command begins again",
    "up": "what it had started is stopped too; the same command begins again",
    "gc": "the same command deletes the rest",
}
"""What becomes of a command's work, where that is not plain."""


class Stop:
    """From its making on SIGTERM raises KeyboardInterrupt, as Ctrl-C does, in whatever a command is doing."""

    def __init__(self) -> None:
        self._signal = signal.SIGINT
        signal.signal(signal.SIGTERM, self._terminate)

    def _terminate(self, signum: int, frame: FrameType | None) -> None:
        self._signal = signal.SIGTERM
        raise KeyboardInterrupt

    def told(self, command: str) -> str:
        """A line about the command that was stopped. Nothing interrupts the process from here on: it is leaving."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        return "; ".join(filter(None, ("stopped", GOES_ON.get(command))))

    @property
    def status(self) -> int:
        """The exit status of a shell: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self._signal
