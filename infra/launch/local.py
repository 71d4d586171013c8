"""Starts the ranks of a distributed stage on this machine and sees all of them end.

Each rank is a fresh interpreter (`infra.launch.rank`). It dies with its parent, whatever way the parent goes; when one
rank fails the others are stopped and its error is raised here; SIGTERM is passed on, so that ranks can save and leave.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.launch.reports import PARENT, RankError, RankKilledError, newest_report, raise_report
from infra.processes import free_ports
from infra.signals import sigterm_event

__all__ = ["launch"]

GRACE_SECONDS = 20.0
"""How long the ranks may take to save after SIGTERM before they are killed."""


def launch(target: str, argument: Any, ranks: int, *, environment: Mapping[str, str] | None = None) -> None:
    """Run ``target`` ("package.module:function") with `argument` in `ranks` processes and wait for all.

    Raises:
        UserError: what the first failing rank raised as such.
        RankKilledError: a signal ended a rank, or it lost the others.
        RankError: any other failure of a rank, with its traceback.
        SystemExit: 143, when SIGTERM arrived and the ranks have left.
    """
    processes: list[subprocess.Popen[bytes]] = []

    def pass_on() -> None:
        for process in processes:
            process.terminate()

    with tempfile.TemporaryDirectory(prefix="deepmill-launch-") as scratch, sigterm_event(pass_on) as terminated:
        job = Path(scratch, "job.json")
        job.write_text(json.dumps({"target": target, "argument": argument, "reports": scratch}), encoding="utf-8")
        shared = {
            **os.environ,
            **(environment or {}),
            PARENT: str(os.getpid()),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_ports()[0]),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        shared.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // ranks)))
        try:
            for rank in range(ranks):
                command = [sys.executable, "-m", "infra.launch.rank", str(job)]
                env = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                processes.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL))
            killed = _wait(processes, terminated)
        finally:
            _stop(processes, 0.0 if sys.exc_info()[0] else GRACE_SECONDS)
        _raise_failure(processes, killed, Path(scratch), terminated.is_set())


def _wait(processes: Sequence[subprocess.Popen[bytes]], terminated: threading.Event) -> list[int]:
    """Return when all ranks ended, one failed, or the grace after SIGTERM is over: the ranks that a signal killed."""
    deadline: float | None = None
    while any(process.poll() is None for process in processes):
        if terminated.is_set():
            deadline = deadline or time.monotonic() + GRACE_SECONDS
            if time.monotonic() > deadline:
                break
        elif any(process.poll() not in (None, 0) for process in processes):
            killed = _killed(processes)
            time.sleep(0.5)  # the others may be about to say why; the first report counts
            return killed
        time.sleep(0.05)
    return _killed(processes)


def _killed(processes: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    return [rank for rank, process in enumerate(processes) if (process.poll() or 0) < 0]


def _stop(processes: Sequence[subprocess.Popen[bytes]], grace: float) -> None:
    failed = any(process.poll() not in (None, 0) for process in processes)
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL if failed or not grace else signal.SIGTERM)
    for process in processes:
        try:
            process.wait(grace or None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _raise_failure(
    processes: Sequence[subprocess.Popen[bytes]], killed: Sequence[int], scratch: Path, terminated: bool
) -> None:
    """Raise the cause: peers of a rank that goes lose their connection and fail too, so the first to go counts."""
    if terminated:
        raise SystemExit(128 + signal.SIGTERM)
    many = len(processes)
    if killed:
        name = signal.Signals(-processes[killed[0]].returncode).name
        raise RankKilledError(f"rank {killed[0]} of {many} was killed by {name}")
    if report := newest_report(scratch):
        raise_report(report)
    for rank, process in enumerate(processes):
        if process.returncode > 0:
            raise RankError(f"rank {rank} of {many} left with status {process.returncode}")
