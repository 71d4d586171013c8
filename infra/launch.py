"""Starts the ranks of a distributed stage on this machine and sees all of them end.

Each rank is a fresh interpreter that calls ``module:function(argument)``, argument a JSON value, under torch's
environment contract (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT). A rank dies with its parent, whatever way
the parent goes; when one rank fails the others are stopped and its error is raised here; SIGTERM is passed on, so that
ranks can save and leave. Knows neither torch nor Prefect.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from infra.errors import DeepmillError, UserError

__all__ = ["RankError", "launch"]

GRACE_SECONDS = 20.0
"""How long the ranks may take to save after SIGTERM before they are killed."""
_PR_SET_PDEATHSIG = 1


class RankError(DeepmillError):
    """A rank failed; the text is its traceback."""


def launch(target: str, argument: Any, ranks: int, *, environment: Mapping[str, str] | None = None) -> None:
    """Run ``target`` ("package.module:function") with `argument` in `ranks` processes and wait for all.

    Raises:
        UserError: what the first failing rank raised as such.
        RankError: any other failure of a rank, with its traceback or signal.
        SystemExit: 143, when SIGTERM arrived and the ranks have left.
    """
    with tempfile.TemporaryDirectory(prefix="deepmill-launch-") as scratch:
        processes: list[subprocess.Popen[bytes]] = []
        terminated = threading.Event()

        def forward(signum: int, frame: FrameType | None) -> None:
            terminated.set()
            for process in processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)

        is_main = threading.current_thread() is threading.main_thread()
        previous = signal.signal(signal.SIGTERM, forward) if is_main else None
        shared = {
            **os.environ,
            **(environment or {}),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        shared.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // ranks)))
        try:
            for rank in range(ranks):
                command = [
                    sys.executable,
                    "-m",
                    "infra.launch",
                    target,
                    json.dumps(argument),
                    scratch,
                    str(os.getpid()),
                ]
                env = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                processes.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL))
            killed = _wait(processes, terminated)
        finally:
            _stop(processes, 0.0 if sys.exc_info()[0] else GRACE_SECONDS)
            if previous is not None:
                signal.signal(signal.SIGTERM, previous)
        _raise_failure(processes, killed, Path(scratch), terminated.is_set())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        raise RankError(f"rank {killed[0]} of {many} was killed by {name}")
    reports: list[dict[str, Any]] = [json.loads(path.read_text()) for path in scratch.glob("error-*.json")]
    if reports:
        first = min(reports, key=lambda report: report["time"])
        if first["is_user_error"]:
            raise UserError(first["message"])
        raise RankError(f"rank {first['rank']} of {many} failed:\n{first['traceback']}")
    for rank, process in enumerate(processes):
        if process.returncode > 0:
            raise RankError(f"rank {rank} of {many} left with status {process.returncode}")


def _run_rank(target: str, argument: str, scratch: str, parent: str) -> None:
    """What a rank's process does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # the parent died before prctl took effect
        os._exit(1)
    rank = os.environ["RANK"]
    try:
        module, function = target.split(":")
        getattr(importlib.import_module(module), function)(json.loads(argument))
    except Exception as error:
        report: dict[str, Any] = {
            "rank": int(rank),
            "time": time.time(),
            "is_user_error": isinstance(error, UserError),
            "message": str(error),
            "traceback": traceback.format_exc(),
        }
        unfinished = Path(scratch, f"{rank}.tmp")
        unfinished.write_text(json.dumps(report))
        unfinished.replace(Path(scratch, f"error-{rank}.json"))
        sys.stderr.write(report["traceback"])
        sys.stderr.flush()
        os._exit(1)  # collectives that wait for other ranks must not hold up the end


if __name__ == "__main__":
    _run_rank(*sys.argv[1:])
