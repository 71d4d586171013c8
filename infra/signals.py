"""SIGTERM as an event that a block looks at where it can leave in order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["sigterm_event"]


@contextlib.contextmanager
def sigterm_event(pass_on: Callable[[], object] = lambda: None) -> Iterator[threading.Event]:
    """An event that SIGTERM sets, while the block runs (in a main thread; elsewhere signals are not ours to take).

    Args:
        pass_on: Called when the signal arrives, for those who must hear of it at once.
    """
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        terminated.set()
        pass_on()

    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, previous)
