"""Stands between a flow and the process of a stage, so that the whole tree ends when either does.

``python -m infra.supervisor PARENT COMMAND...`` runs COMMAND and ends with its status. It adopts every orphan below it
(PR_SET_CHILD_SUBREAPER). On SIGTERM, or when the flow that started it is gone (kill -9 included), it asks all
descendants to stop, gives them time to save, and kills what is left. Work elsewhere, which COMMAND has registered
(`infra.cleanup_hooks`), ends the same way. ``--child-first SECONDS`` asks COMMAND alone first and gives it that long to
end what it started in its own order, as a Prefect worker does. Knows nothing of stages.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import psutil

from infra.cleanup_hooks import run_cleanup_hooks

__all__ = ["die_with_parent", "stand_by", "supervise", "watch"]

GRACE_SECONDS = 8.0
"""From SIGTERM to SIGKILL: a training checkpoint fits in, and a cancelled flow ends within 10 seconds."""
POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread of `parent` that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before that took effect
        os._exit(1)


def supervise(parent: int, command: list[str], child_first: float = 0.0) -> int:
    """Run `command` until it ends, `parent` is gone or SIGTERM arrives; returns the status of a shell."""
    stopping = stand_by()
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=partial(die_with_parent, os.getpid()))
    return watch(child.pid, parent, stopping, child_first)


def stand_by() -> threading.Event:
    """Make this process one that may `watch` a child it is about to start; the event is SIGTERM's arrival."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda signum, frame: stopping.set())
    # Ctrl-C reaches the flow, which then sends SIGTERM. A handler, not SIG_IGN: that one COMMAND would inherit, and a
    # Prefect worker, which turns its SIGTERM into SIGINT, would never stop.
    signal.signal(signal.SIGINT, lambda signum, frame: None)
    run_cleanup_hooks()  # of an attempt whose supervisor was killed
    return stopping


def watch(child: int, parent: int, stopping: threading.Event, child_first: float = 0.0) -> int:
    """Wait until `child` ends, `parent` is gone or `stopping` is set, and end all below; the status of a shell."""
    while not _has_ended(child):
        # Polled, not PR_SET_PDEATHSIG: that one fires when the starting *thread* ends, and flows use threads.
        if stopping.is_set() or os.getppid() != parent:
            if child_first:
                os.kill(child, signal.SIGTERM)
                _wait(child, child_first)
            _end_descendants(GRACE_SECONDS)
            run_cleanup_hooks()
            return 128 + signal.SIGTERM
        _reap(child)
        time.sleep(POLL_SECONDS)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _end_descendants(0.0)
    run_cleanup_hooks()
    return code if code >= 0 else 128 - code


def _has_ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _wait(child: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not _has_ended(child):
        time.sleep(POLL_SECONDS)


def _end_descendants(grace: float) -> None:
    me = psutil.Process()
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate() if grace else process.kill()
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and _alive(me):
        _reap()
        time.sleep(POLL_SECONDS)
    while alive := _alive(me):
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        _reap()
        time.sleep(0.02)
    _reap()  # whoever ended by itself too: processor time counts only of those that were waited for


def _alive(me: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _reap(but: int = 0) -> None:
    """Collect those that have ended, adopted ones too: below a worker that stays up for weeks they would pile up.
    The child `but`, whose status is wanted, is left."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != but:
            os.waitpid(ended.si_pid, 0)


def main(arguments: list[str]) -> int:
    """``[--child-first SECONDS] PARENT COMMAND...``"""
    child_first = 0.0
    if arguments[0] == "--child-first":
        child_first, arguments = float(arguments[1]), arguments[2:]
    return supervise(int(arguments[0]), arguments[1:], child_first)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
