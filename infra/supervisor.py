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
import time
from functools import partial
from types import FrameType

import psutil

from infra.cleanup_hooks import run_cleanup_hooks

__all__ = ["die_with_parent", "supervise"]

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
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C reaches the flow, which then sends SIGTERM. A handler, not SIG_IGN: that one COMMAND would inherit, and a
    # Prefect worker, which turns its SIGTERM into SIGINT, would never stop.
    signal.signal(signal.SIGINT, lambda signum, frame: None)
    run_cleanup_hooks()  # of an attempt whose supervisor was killed
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=partial(die_with_parent, os.getpid()))
    while child.poll() is None:
        # Polled, not PR_SET_PDEATHSIG: that one fires when the starting *thread* ends, and flows use threads.
        if stopping or os.getppid() != parent:
            if child_first:
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(child_first)
            _end_descendants(child.pid, GRACE_SECONDS)
            child.wait()
            run_cleanup_hooks()
            return 128 + signal.SIGTERM
        _reap(child.pid)
        time.sleep(POLL_SECONDS)
    _end_descendants(child.pid, 0.0)
    run_cleanup_hooks()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _end_descendants(child: int, grace: float) -> None:
    me = psutil.Process()
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate() if grace else process.kill()
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and _alive(me):
        _reap(child)
        time.sleep(POLL_SECONDS)
    while alive := _alive(me):
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        _reap(child)
        time.sleep(0.02)
    _reap(child)  # whoever ended by itself too: processor time counts only of those that were waited for


def _alive(me: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _reap(child: int) -> None:
    """Collect the adopted ones that have ended, which below a worker that stays up for weeks would pile up; `child` is
    left to its `Popen`."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != child:
            os.waitpid(ended.si_pid, 0)


def main(arguments: list[str]) -> int:
    """``[--child-first SECONDS] PARENT COMMAND...``"""
    child_first = 0.0
    if arguments[0] == "--child-first":
        child_first, arguments = float(arguments[1]), arguments[2:]
    return supervise(int(arguments[0]), arguments[1:], child_first)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
