"""Forks a locked child for every job, and ends it when its time is over: the far side of `pipeline.reasoning.sandbox`.

Run with an empty environment, one process per kind of job. It is told, over a socket, to fork; the job itself goes
from whoever wants it done straight to the child, and its outcome straight back, through pipes that this process lets
go of unread. So no child is forked from a process that has seen a job, and none sees more than its own: in its memory,
in the frames below it, or among its open files.

The order in a child: it locks itself, says so on its channel, and only then is given the job. Time is processor time,
read from outside by the kernel's clock of the child, so that a busy machine changes no verdict and nothing in the child
can put it off; wall time has a limit of its own.
"""

from __future__ import annotations

import gc
import io
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.reasoning.lockdown import die_with_parent, lock
from pipeline.reasoning.untrusted import ERROR, WORK, Job, Work

__all__ = ["LOCKED", "NOT_LOCKED", "main"]

LOCKED, NOT_LOCKED = b"+", b"-"
"""First byte on a child's channel; after the second comes the reason."""
_exit: Final = os._exit
"""A program may put anything in the place of `os._exit`."""


@dataclass(frozen=True)
class Order:
    """What a child is forked for; `files` are its ends of the two pipes, of the job and of the outcome."""

    number: int
    seconds: float
    wall_seconds: float
    memory_bytes: int
    files: tuple[int, int]


@dataclass
class _Child:
    number: int
    pid: int
    seconds: float
    deadline: float
    look_at: float
    is_overdue: bool = False
    clock: int = field(init=False)

    def __post_init__(self) -> None:
        self.clock = (~self.pid << 3) | 2  # clock_getcpuclockid(3) of another process

    def end_if_overdue(self, now: float) -> None:
        """Kill it when its time is over; else say when to look again."""
        try:
            left = min(self.seconds - time.clock_gettime(self.clock), self.deadline - now)
        except OSError:  # it has ended
            left = 1.0
        if left <= 0:
            self.is_overdue = True
            os.kill(self.pid, signal.SIGKILL)
        self.look_at = now + max(left, 0.005)


class Server:
    """Forks and watches children."""

    def __init__(self, control: socket.socket, work: Work) -> None:
        self._control, self._work = control, work
        self._children: dict[int, _Child] = {}
        self._parent = os.getpid()
        self._wake, far = os.pipe()
        for end in (self._wake, far):
            os.set_blocking(end, False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: whoever wants the jobs done decides
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(far, warn_on_full_buffer=False)

    def serve(self) -> Order | None:
        """Work until the other side is gone, which gives None; in each child it returns too, with its order."""
        while True:
            now = time.monotonic()
            waits = [child.look_at - now for child in self._children.values() if not child.is_overdue]
            wait = max(0.0, min(waits)) if waits else None
            ready, _, _ = select.select([self._control.fileno(), self._wake], [], [], wait)
            if self._wake in ready:
                os.read(self._wake, 4096)
            self._reap()
            if self._control.fileno() in ready:
                message, files, _, _ = socket.recv_fds(self._control, 4096, 2)
                if not message:
                    return None
                order = self._obey(json.loads(message), files)
                if order is not None:
                    return order
            now = time.monotonic()
            for child in self._children.values():
                if now >= child.look_at and not child.is_overdue:
                    child.end_if_overdue(now)

    def _obey(self, message: dict[str, Any], files: list[int]) -> Order | None:
        if "kill" in message:
            for child in self._children.values():
                if child.number == message["kill"]:
                    os.kill(child.pid, signal.SIGKILL)
            return None
        if task := message.pop("task"):
            self._work.prepare_task(task)
        order = Order(files=(files[0], files[1]), **message)
        gc.freeze()  # a child that collects garbage then does not copy what it shares with this process
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(order.number, "not forked", str(error))
            pid = -1
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.detach()  # closed by number later
            die_with_parent(self._parent)
            return order
        for file in order.files:
            os.close(file)
        if pid > 0:
            now = time.monotonic()
            deadline = now + order.wall_seconds
            self._children[pid] = _Child(order.number, pid, order.seconds, deadline, now + order.seconds)
        return None

    def _reap(self) -> None:
        while self._children:
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            child = self._children.pop(pid)
            ending = os.WTERMSIG(wait_status) if os.WIFSIGNALED(wait_status) else 0
            if child.is_overdue or ending in (signal.SIGXCPU, signal.SIGSYS):  # SIGSYS: it would have waited for ever
                self._tell(child.number, "time")
            elif ending:
                self._tell(child.number, "killed")
            else:
                self._tell(child.number, "exited", os.WEXITSTATUS(wait_status))

    def _tell(self, number: int, ending: str, detail: int | str = 0) -> None:
        self._control.send(json.dumps([number, ending, detail]).encode())


def _take_job(order: Order, channel: int) -> Job:
    """Keep nothing but the two pipes, lock this process, and only then read the job."""
    job, outcome = (os.dup(file) for file in order.files)  # beyond the numbers they are to have
    os.dup2(job, 0)
    os.dup2(outcome, channel)
    for end in range(1, 4):
        if end != channel:
            os.closerange(end, end + 1)
    os.closerange(4, 4096)
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), io.StringIO(), io.StringIO()
    try:
        lock(order.seconds, order.memory_bytes)
    except OSError as error:
        os.write(channel, NOT_LOCKED + str(error).encode()[:200])
        _exit(ERROR)
    os.write(channel, LOCKED)
    taken: Job = json.loads(_read(int.from_bytes(_read(4), "little")))
    os.close(0)
    return taken


def _read(size: int) -> bytes:
    """So many bytes of the job's pipe."""
    parts = []
    while size and (part := os.read(0, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def main() -> None:
    """Serve one kind of work: ``python -m pipeline.reasoning.sandbox_worker KIND SOCKET``."""
    work = WORK[sys.argv[1]]
    control = socket.socket(fileno=int(sys.argv[2]))
    work.prepare()
    os.environ.clear()
    gc.collect()
    order = Server(control, work).serve()
    if order is None:  # children end with their parent
        return
    status = ERROR
    try:
        status = work.run(_take_job(order, work.channel), work.channel)
    finally:
        _exit(status)


if __name__ == "__main__":
    main()
