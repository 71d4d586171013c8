"""A real Ray cluster for tests: one node of two cores on loopback, which ends with the test."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.infra.s3 import free_ports

HOUSE = Path(__file__).parents[2]
FLAGS = (
    "--head",
    "--block",
    "--node-ip-address=127.0.0.1",
    "--num-cpus=2",
    f"--memory={4 << 30}",
    f"--object-store-memory={100 << 20}",
    "--include-dashboard=false",
    "--disable-usage-stats",
    "--dashboard-agent-listen-port=0",
    "--dashboard-agent-grpc-port=0",
)


def missing() -> str:
    """Why there can be no Ray here; empty when there can."""
    return "" if importlib.util.find_spec("ray") else "no Ray: its wheel is not installed"


@contextlib.contextmanager
def ray_cluster() -> Iterator[str]:
    """Run a cluster; yields its address."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/var/tmp"))  # short: a socket's path has at most 107 bytes
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", *FLAGS, f"--port={port}", f"--temp-dir={folder}"]
    command = [sys.executable, "-m", "infra.supervisor", str(os.getpid()), *ray]
    variables = os.environ | {"PYTHONPATH": str(HOUSE), "RAY_USAGE_STATS_ENABLED": "0"}
    with (folder / "ray.out").open("wb") as log:
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=HOUSE
        )
    try:
        _wait_until_started(process, folder / "ray.out")
        yield address
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_started(process: subprocess.Popen[bytes], log: Path, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while "Ray runtime started" not in (told := log.read_text(errors="replace")):
        assert process.poll() is None, told
        assert time.monotonic() < deadline, told
        time.sleep(0.2)
