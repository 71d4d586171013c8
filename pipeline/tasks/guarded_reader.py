"""Reads foreign files in a process of its own, item by item: what decodes a file may take more than the file promises.

A Parquet file of some kilobytes holds pages that decode to gigabytes, and what decodes them is C++. Here that happens
in a process with a bound on its memory, on its time for each item, and nothing to lose: when it ends, the reader of the
file is told how, and goes on behind the place. The process lives on from file to file.
"""

from __future__ import annotations

import atexit
import os
import pickle
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from infra import events
from pipeline.tasks import guard
from pipeline.tasks.guard import POLL_SECONDS, Child, is_over

__all__ = ["Broken", "guarded_items", "renew"]


class Broken(Exception):  # noqa: N818  (a finding about the file)
    """The process ended over an item: `rule` says how."""

    def __init__(self, rule: str, problem: str) -> None:
        super().__init__(problem)
        self.rule = rule


_idle: Child | None = None


def guarded_items(make: Callable[..., Iterator[Any]], arguments: tuple[Any, ...], seconds: float) -> Iterator[Any]:
    """The items of `make(*arguments)`, a function of a module; both have to go through a pipe.

    Args:
        seconds: of processor time for each item.

    Raises:
        Broken: an item took longer, or too much memory, or the process died of it.
        Exception: what `make` raised.
    """
    child = _taken()
    done = False
    try:
        _tell(child, (make, arguments))
        while (received := _received(child, seconds))[0] == "item":
            child.count()
            yield received[1]
        child.count()
        done = received[0] != "memory"  # after which a process may be anything
    finally:
        _give_back(child) if done else child.end()  # what it has sent since would belong to nobody
    match received[0]:
        case "memory":
            raise Broken("failure/memory", f"more than {guard.MEMORY / (1 << 30):.3g} GiB of memory")
        case "error":
            raise received[1]


def _taken() -> Child:
    global _idle
    child, _idle = _idle, None
    if child is None or child.owner != os.getpid():  # a process that was forked has its own
        events.flush()  # what this process has to report is no business of the other's
        child = Child(_serve)
    return child


def _give_back(child: Child) -> None:
    global _idle
    if _idle is not None:
        _idle.end()
    _idle = child


def renew() -> None:
    """Let the next file be read by a process that knows what this one knows by now."""
    global _idle
    if _idle is not None:
        _idle.end()
        _idle = None


atexit.register(renew)


def _tell(child: Child, what: Any) -> None:
    try:
        child.pipe.send(what)
    except OSError:
        raise Broken("failure/crash", "the process died") from None


def _received(child: Child, seconds: float) -> tuple[str, Any]:
    used, clock = child.seconds(), time.monotonic()
    try:
        while not child.pipe.poll(min(POLL_SECONDS, seconds / 2)):
            if is_over(child, used, clock, seconds):
                raise Broken("failure/timeout", f"not done after {seconds:g} s of processor time")
        kind, value = child.pipe.recv()
    except (EOFError, OSError):
        raise Broken("failure/crash", "the process died") from None
    return kind, value


def _serve(pipe: Connection, _: Any) -> None:
    while True:
        try:
            make, arguments = pipe.recv()
            pipe.send(_sent(pipe, make, arguments))
        except (EOFError, OSError):
            return


def _sent(pipe: Connection, make: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """Send the items; what then ends them."""
    try:
        for item in make(*arguments):
            pipe.send(("item", item))
        events.flush()
    except MemoryError:
        return "memory", None
    except Exception as error:
        return "error", _portable(error)
    return "end", None


def _portable(error: Exception) -> Exception:
    """`error`, or one like it that can be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        kind = OSError if isinstance(error, OSError) else RuntimeError
        return kind(f"{type(error).__name__}: {error}")
    return error
