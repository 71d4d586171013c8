"""Which process one is: a number is given again, after a reboot even in the same order."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["is_alive_here", "this_process"]


def this_process() -> dict[str, Any]:
    """Host, number and birth of this process, to be kept as JSON."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": _birth(os.getpid())}


def is_alive_here(process: Mapping[str, Any]) -> bool | None:
    """Whether the process that once said `this_process` of itself is there; None when it is another machine's."""
    if process.get("host") != socket.gethostname():
        return None
    born = _birth(process["pid"])
    return born is not None and process.get("born", born) == born


def _birth(pid: int) -> str | None:
    """Boot of the machine and ticks since then, which no setting of the clock changes; None without such a process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before may hold anything
    return None if state == "Z" else f"{boot}/{fields[18]}"
