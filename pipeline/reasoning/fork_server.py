"""The near side of `pipeline.reasoning.sandbox_worker`: gives jobs to locked children and takes in what comes back.

Everything that comes from a child is bytes of a bounded number, taken as they are. How it ended is told by the process
that forked it, over a socket that no child has.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from infra.errors import DeepmillError, UserError
from pipeline.reasoning.sandbox_worker import LOCKED

__all__ = ["Ending", "ForkServer", "Job", "Limits"]

_ROOT = Path(__file__).parents[2]
_ENVIRONMENT = {
    "PYTHONPATH": str(_ROOT),
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "HOME": "/",
}
ONLY_THERE = "programs are run and judged only under seccomp (Linux, x86-64 or ARM)"
_ATTEMPTS = 3
"""How often a job is begun whose process, or whose server, was ended from outside."""
_SLACK = 30.0
"""Seconds without a word, beyond the longest that any child has, after which the server is taken for dead."""


@dataclass(frozen=True)
class Limits:
    """What a child may use."""

    seconds: float = 1.0
    """Processor time. Wall time is twenty times that, and twenty at least: a busy machine changes no verdict."""
    memory_bytes: int = 128 << 20
    """Beyond what the interpreter has."""
    output_bytes: int = 4096

    @property
    def wall_seconds(self) -> float:
        """Seconds after which a child is ended however little processor time it has had; none can wait (`lockdown`)."""
        return max(20.0, 20 * self.seconds)


@dataclass(frozen=True)
class Job:
    """What a child is to do."""

    body: bytes
    """JSON, which nobody but the child reads."""
    task: str = ""
    """The name of what has to be loaded for it, before the fork."""


@dataclass(frozen=True)
class Ending:
    """How a child ended."""

    how: str
    """exited, time, output (too much of it) or killed (by a signal)."""
    status: int = 0
    """The status it exited with: its own word."""
    output: bytes = b""


class _ServerDiedError(Exception):
    """It, or the way to it, is gone."""


@dataclass
class _Running:
    """A job that a child has been forked for."""

    place: int
    number: int
    message: memoryview
    """The job, as far as it is not sent."""
    job_fd: int
    outcome_fd: int
    most: int
    told: bytearray = field(default_factory=bytearray)
    is_sent: bool = False

    def close(self) -> None:
        for descriptor in (self.job_fd, self.outcome_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self.job_fd = self.outcome_fd = -1


class ForkServer:
    """A process that forks children for one kind of job; started when it is first needed, and anew when it dies."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = os.getpid()
        self._number = 0

    def run(self, jobs: Sequence[Job], limits: Limits) -> list[Ending]:
        """Do the jobs, as many at a time as there are processors.

        Raises:
            UserError: a child cannot be locked here; it was given no job.
            DeepmillError: the server died again and again.
        """
        with self._lock:
            return _Batch(self, jobs, limits).run()

    def connect(self) -> socket.socket:
        """The socket of the server, which is started if it is not running."""
        if sys.platform != "linux":
            raise UserError(f"no sandbox on {sys.platform}; {ONLY_THERE}")
        if self._control is None or self._owner != os.getpid():  # a forked process must not share the socket
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with far:
                command = ["-s", "-P", "-B", "-m", "pipeline.reasoning.sandbox_worker", self._kind, str(far.fileno())]
                self._process = subprocess.Popen(
                    [sys.executable, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_ENVIRONMENT,
                    cwd="/",
                    pass_fds=[far.fileno()],
                )
            self._control, self._owner = near, os.getpid()
        return self._control

    def next_number(self) -> int:
        """A number that no other job of this server has."""
        self._number += 1
        return self._number

    def close(self) -> None:
        """End the server and its children."""
        control, process, self._control, self._process = self._control, self._process, None, None
        if control is not None:
            control.close()
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()


class _Batch:
    """Jobs that are done together."""

    def __init__(self, server: ForkServer, jobs: Sequence[Job], limits: Limits) -> None:
        self._server, self._jobs, self._limits = server, jobs, limits
        self._width = max(1, len(os.sched_getaffinity(0)))
        self._waiting = collections.deque(range(len(jobs)))
        self._attempts = [0] * len(jobs)
        self._endings: dict[int, Ending] = {}
        self._running: dict[int, _Running] = {}

    def run(self) -> list[Ending]:
        try:
            while len(self._endings) < len(self._jobs):
                try:
                    self._run()
                except (_ServerDiedError, BrokenPipeError, ConnectionError):
                    for running in list(self._running.values()):
                        self._again(running)
                    self._server.close()
        except BaseException:
            self._server.close()  # whatever it still does is nobody's
            raise
        finally:
            for running in self._running.values():
                running.close()
        return [self._endings[place] for place in range(len(self._jobs))]

    def _run(self) -> None:
        control = self._server.connect()
        patience = self._limits.wall_seconds + _SLACK
        with selectors.DefaultSelector() as selector:
            selector.register(control, selectors.EVENT_READ, None)
            heard = time.monotonic()
            while self._waiting or self._running:
                while self._waiting and len(self._running) < self._width:
                    self._begin(control, selector)
                events = selector.select(patience)
                if not events and time.monotonic() - heard > patience:
                    raise _ServerDiedError
                heard = time.monotonic()
                for key, _ in events:
                    if key.data is None:
                        continue
                    if key.fd == key.data.outcome_fd:
                        self._listen(key.data, control, selector)
                    elif key.fd == key.data.job_fd:
                        self._send(key.data, selector)
                if any(key.data is None for key, _ in events):
                    self._end(control, selector)

    def _begin(self, control: socket.socket, selector: selectors.BaseSelector) -> None:
        place = self._waiting.popleft()
        self._attempts[place] += 1
        if self._attempts[place] > _ATTEMPTS:
            raise DeepmillError("a sandboxed process was ended from outside, time and again; is the memory enough?")
        job = self._jobs[place]
        child_job, job_fd = os.pipe()
        outcome_fd, child_outcome = os.pipe()
        message = memoryview(len(job.body).to_bytes(4, "little") + job.body)
        running = _Running(place, self._server.next_number(), message, job_fd, outcome_fd, self._limits.output_bytes)
        self._running[running.number] = running
        for descriptor in (job_fd, outcome_fd):
            os.set_blocking(descriptor, False)
        order = {
            "number": running.number,
            "seconds": self._limits.seconds,
            "wall_seconds": self._limits.wall_seconds,
            "memory_bytes": self._limits.memory_bytes,
            "task": job.task[:100],
        }
        try:
            socket.send_fds(control, [json.dumps(order).encode()], [child_job, child_outcome])
        finally:
            os.close(child_job)
            os.close(child_outcome)
        selector.register(outcome_fd, selectors.EVENT_READ, running)

    def _listen(self, running: _Running, control: socket.socket, selector: selectors.BaseSelector) -> None:
        """Take in what the child has told; once it is locked, give it its job."""
        is_open = _drain(running)
        if running.told[:1] == LOCKED and not running.is_sent:
            running.is_sent = True
            selector.register(running.job_fd, selectors.EVENT_WRITE, running)
            self._send(running, selector)
        if len(running.told) > running.most + 1:
            control.send(json.dumps({"kill": running.number}).encode())
            is_open = False
        if not is_open:
            selector.unregister(running.outcome_fd)
            os.close(running.outcome_fd)
            running.outcome_fd = -1

    @staticmethod
    def _send(running: _Running, selector: selectors.BaseSelector) -> None:
        try:
            running.message = running.message[os.write(running.job_fd, running.message) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it has ended
            running.message = running.message[:0]
        if not running.message:
            selector.unregister(running.job_fd)
            os.close(running.job_fd)
            running.job_fd = -1

    def _end(self, control: socket.socket, selector: selectors.BaseSelector) -> None:
        """Take in how a child has ended."""
        word = control.recv(4096)
        if not word:
            raise _ServerDiedError
        number, how, detail = json.loads(word)
        running = self._running[number]
        for descriptor in (running.job_fd, running.outcome_fd):
            with contextlib.suppress(KeyError, ValueError):
                selector.unregister(descriptor)
        if running.outcome_fd >= 0:
            _drain(running)
        if running.told[:1] not in (b"", LOCKED):
            reason = bytes(running.told[1:]).decode(errors="replace")
            raise UserError(f"no sandbox: {reason}; {ONLY_THERE}")
        if not running.is_sent:  # the job had no part in it
            self._again(running)
            return
        del self._running[number]
        running.close()
        output = bytes(running.told[1 : running.most + 1])
        if len(running.told) > running.most + 1:
            self._endings[running.place] = Ending("output")
        elif how == "exited":
            self._endings[running.place] = Ending(how, detail, output)
        else:
            self._endings[running.place] = Ending(how)

    def _again(self, running: _Running) -> None:
        """Put the job back."""
        del self._running[running.number]
        running.close()
        self._waiting.append(running.place)


def _drain(running: _Running) -> bool:
    """Read what there is, a little more than is wanted at most; False at the end of it."""
    while len(running.told) <= running.most + 1:
        try:
            part = os.read(running.outcome_fd, 65536)
        except BlockingIOError:
            return True
        if not part:
            return False
        running.told += part
    return True
