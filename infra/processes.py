"""Which process one is, and whose: a number is given again, after a reboot even in the same order."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from infra.facts import Facts

__all__ = [
    "ProcessMark",
    "birth",
    "free_ports",
    "is_alive_here",
    "is_foreign_listener",
    "python_path",
    "send_signal",
    "this_process",
]

LISTENS = "0A"
"""State of a socket in /proc/net/tcp."""


class ProcessMark(Facts):
    """What tells a process from all others, kept as JSON."""

    host: str
    pid: int
    born: str | None = None
    """See `birth`; None in what earlier versions kept."""


def this_process() -> ProcessMark:
    """The mark of this process."""
    return ProcessMark(host=socket.gethostname(), pid=os.getpid(), born=birth(os.getpid()))


def is_alive_here(process: ProcessMark) -> bool | None:
    """Whether the process that once said `this_process` of itself is there; None when it is another machine's."""
    if process.host != socket.gethostname():
        return None
    born = birth(process.pid)
    return born is not None and process.born in (None, born)


def birth(pid: int) -> str | None:
    """When a process was born: the machine's boot and ticks since then, which no setting of the clock changes.

    None without such a process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before may hold anything
    return None if state == "Z" else f"{boot}/{fields[18]}"


def send_signal(process: ProcessMark, number: int) -> bool:
    """Send a signal to the process that once said `this_process` of itself; False where it is not there any more.

    Never reaches another: the process is held by a descriptor before it is looked at, so its number cannot be given
    again in between.
    """
    try:
        held = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not process.born or is_alive_here(process) is not True:
            return False
        signal.pidfd_send_signal(held, number)
        return True
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(held)


def python_path() -> str:
    """``PYTHONPATH`` for a child that is to run the same code of ours as this process, wherever it is started."""
    return os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))


def free_ports(count: int = 1) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(each.getsockname()[1]) for each in held]


def is_foreign_listener(port: int) -> bool:
    """Whether a program of another user (but root) listens on a port of this machine: what is said there, it hears."""
    return any(owner not in (0, os.geteuid()) for owner in _listeners(port))


def _listeners(port: int) -> Iterator[int]:
    """Users of the listening sockets of a port; none where the system does not tell."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, state = fields[1], fields[3]
            if state == LISTENS and int(local.rpartition(":")[2], 16) == port:
                yield int(fields[7])
