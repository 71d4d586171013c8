"""Works on records in a process of its own, which is ended when one hangs, breaks down or eats the memory.

Extractors of HTML and wiki markup are C; what hangs or crashes there cannot be stopped from Python, and would take the
task with it. Rules of other people's make have patterns nobody has tried on everything. The record that did it is
rejected (`failure/timeout`, `failure/memory`, `failure/crash`), and another process goes on with the next. Records go
over in batches, so that the talk costs little.

The limit is of processor time, which depends less on a busy machine than the clock does. It is the last resort: what is
known to be slow is refused by a rule that counts (see `pipeline/sources/html.py`), so that the bytes that come out do
not depend on the machine.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import math
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from pipeline.tasks.documents import Document

__all__ = ["POLL_SECONDS", "Budget", "Child", "Extracted", "Job", "Work", "guarded", "is_over", "renew", "spent"]

Extracted = tuple[str, dict[str, Any], str | None]
"""Text, further metadata, and the rule that rejects the record or None."""
Work = Callable[[Any], Extracted]
"""A function of a module, of what a job carries; it may raise whatever it likes."""
Job = tuple[Document, Any | None, str | None]
"""A document without text; what to make its text of, or None where a rule rejects it already; that rule."""

BATCH_RECORDS, BATCH_BYTES = 32, 2_000_000
POLL_SECONDS = 0.5
SLOWEST = 10
"""Times the limit that the clock may show: for a process that waits, and uses no time."""
LEAST_SECONDS = 0.25
"""What a record of any size may take."""
MEMORY = 6 << 30
"""Address space that the process may use beyond what it begins with."""

_CONTEXT = multiprocessing.get_context("fork")


_pipes: set[Connection] = set()
"""This process's ends of the pipes to its children. A further child inherits them, and must not hold them open."""


class Child:
    """A process that serves this one, and what is known of it."""

    def __init__(self, serve: Callable[[Connection, Any], None]) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.at = _CONTEXT.RawValue("q", -1)
        """Which record of its batch it is at."""
        _pipes.add(self.pipe)
        self.process = _CONTEXT.Process(target=_confined, args=(serve, theirs, self.at), daemon=True)
        self.process.start()
        theirs.close()
        self.owner = os.getpid()
        self.usage = psutil.Process(self.process.pid)
        self.counted = 0.0

    def seconds(self) -> float:
        """Processor time that it has used."""
        with contextlib.suppress(psutil.Error):
            times = self.usage.cpu_times()
            return float(times.user + times.system)
        return 0.0

    def count(self) -> None:
        """Add what it has used since the last time to what all have."""
        global _spent
        now = max(self.seconds(), self.counted)
        _spent += now - self.counted
        self.counted = now

    def end(self) -> None:
        """End it, if it is this process's own and not that of one it was forked from."""
        if self.owner != os.getpid():
            return
        _pipes.discard(self.pipe)
        self.pipe.close()
        self.process.kill()
        self.process.join()


_child: Child | None = None
_spent = 0.0


def spent() -> float:
    """Processor time that guarded work has taken in this process's name: that of one record has a limit, and what many
    records may take together is for their reader to say.
    """
    return _spent


class Budget:
    """Processor time of many records: each may take `each` seconds, until all so far have taken more than texts of
    their size should; from then on each has what its own size allows.

    So one record that is slow has its time, and a thousand of them do not have a thousand times as much.
    """

    def __init__(self, each: float, free: float = 300.0, per_megabyte: float = 60.0) -> None:
        self.each, self.free, self.per_megabyte = each, free, per_megabyte
        self.begun, self.size = spent(), 0

    def seconds(self, payload: Any) -> float:
        """What a record may take now."""
        if spent() - self.begun <= self.free + self.per_megabyte * self.size / 1e6:
            return self.each
        return min(self.each, LEAST_SECONDS + self.per_megabyte * _size(payload) / 1e6)


def _end() -> None:
    global _child
    if _child is not None:
        _child.end()
        _child = None


atexit.register(_end)


def renew() -> None:
    """Let the next work be done by a process that knows what this one knows by now."""
    _end()


def _confined(serve: Callable[[Connection, Any], None], pipe: Connection, at: Any) -> None:
    """What a child does: `serve`, with a bound on its memory; first in the line when the machine's own is full."""
    for other in _pipes:
        other.close()  # so that the end of the parent ends the pipe
    faulthandler.disable()  # the crash is told with the record
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    size = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    serve(pipe, at)


def _serve(pipe: Connection, at: Any) -> None:
    while True:
        try:
            work, payloads = pipe.recv()
        except (EOFError, OSError):
            return
        results: list[Extracted] = []
        for number, payload in enumerate(payloads):
            at.value = number
            try:
                results.append(work(payload))
            except MemoryError:
                results.append(("", {"failure": f"more than {MEMORY / (1 << 30):.3g} GiB of memory"}, "failure/memory"))
            except Exception as error:  # whatever a record of the open web brings the extractor to
                results.append(("", {"failure": f"{type(error).__name__}: {error}"[:500]}, "failure/text"))
        pipe.send(results)


def guarded(work: Work, jobs: Iterable[Job], seconds: float | Budget) -> Iterator[tuple[Document, str | None]]:
    """The documents of `jobs`, in order, with the text that `work` makes of what they carry, and the rule that rejects
    them or None. A record may take `seconds` of processor time, or what a budget gives it.

    Raises:
        Exception: what `jobs` raises, once the jobs before it are done.
    """
    budget = seconds if isinstance(seconds, Budget) else Budget(seconds, math.inf)
    batch: list[Job] = []
    size = 0
    source = iter(jobs)
    while True:
        damage: Exception | None = None
        try:
            job = next(source, None)
        except Exception as error:  # raised below
            job, damage = None, error
        if job is not None:
            batch.append(job)
            size += (length := _size(job[1]))
            budget.size += length
        if job is None or len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
            results = iter(_extract(work, [each[1] for each in batch if each[1] is not None], budget))
            for document, payload, rule in batch:
                if payload is not None:
                    document.text, metadata, rule = next(results)
                    document.metadata |= metadata
                yield document, rule
            batch, size = [], 0
        if damage:
            raise damage
        if job is None:
            return


def _size(payload: Any) -> int:
    if isinstance(payload, (bytes, str)):
        return len(payload)
    return sum(map(_size, payload)) if isinstance(payload, tuple) else 0


def _extract(work: Work, payloads: list[Any], budget: Budget) -> Iterator[Extracted]:
    """The results of `payloads`; a record that ends the process is done without, and the others anew."""
    global _child
    while payloads:
        if _child is None or _child.owner != os.getpid():  # a process that was forked has its own
            _child = Child(_serve)
        try:
            results, culprit, why = _ask(_child, work, payloads, budget)
            _child.count()
        except BaseException:  # Ctrl-C between question and answer: the next answer would be to this question
            _end()
            raise
        if results is not None:
            yield from results
            return
        _end()
        yield from _extract(work, payloads[:culprit], budget)
        rule = "timeout" if why else "crash"
        yield "", {"failure": why or "the process died"}, f"failure/{rule}"
        payloads = payloads[culprit + 1 :]


def is_over(child: Child, used: float, clock: float, seconds: float) -> bool:
    """Whether a child that had used `used` seconds when the clock showed `clock` has had its `seconds`."""
    return child.seconds() - used > seconds or time.monotonic() - clock > SLOWEST * seconds


def _ask(child: Child, work: Work, payloads: list[Any], budget: Budget) -> tuple[list[Extracted] | None, int, str]:
    """The results; or None, which record ended the process, and why if it was not by dying."""
    child.at.value = 0
    try:
        child.pipe.send((work, payloads))
        at, used, clock = 0, child.seconds(), time.monotonic()
        seconds = budget.seconds(payloads[0])
        while not child.pipe.poll(min(POLL_SECONDS, seconds / 2)):
            child.count()
            if child.at.value != at:
                at, used, clock = child.at.value, child.seconds(), time.monotonic()
            elif is_over(child, used, clock, seconds := budget.seconds(payloads[at])):
                return None, at, f"not done after {seconds:.3g} s of processor time"
        return child.pipe.recv(), 0, ""
    except (EOFError, OSError):
        return None, child.at.value, ""
