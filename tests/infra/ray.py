"""A real Ray cluster for tests: one node of two cores on loopback, which ends with the test."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.tasks.ray_tasks import OWN

HOUSE = Path(__file__).parents[2]
ATTEMPTS = 4
"""Ray gives up starting after 30 seconds, which a busy machine needs."""
HEAD = """
import os, sys, time
import ray
context = ray.init(
    num_cpus=2, _memory=4 << 30, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False,
    logging_level="error", _node_ip_address="127.0.0.1", _temp_dir=sys.argv[1],
)
print("address", context.address_info["gcs_address"], flush=True)
time.sleep(3600)
"""


def missing() -> str:
    """Why there can be no Ray here; empty when there can."""
    return "" if importlib.util.find_spec("ray") else "no Ray: its wheel is not installed"


@contextlib.contextmanager
def ray_cluster() -> Iterator[tuple[str, dict[str, str]]]:
    """Run a cluster; yields its address and the environment that may use it."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/var/tmp"))  # short: a socket's path has at most 107 bytes
    command = [sys.executable, "-m", "infra.supervisor", str(os.getpid()), sys.executable, "-c", HEAD, str(folder)]
    key = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), **OWN}
    variables = os.environ | key | {"PYTHONPATH": str(HOUSE), "RAY_USAGE_STATS_ENABLED": "0"}
    log = folder / "head.out"
    for attempt in range(1, ATTEMPTS + 1):
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=HOUSE
            )
        while process.poll() is None and not (found := re.search(r"^address (\S+)$", log.read_text(), re.MULTILINE)):
            time.sleep(0.2)
        if process.poll() is None and found:
            break
        assert attempt < ATTEMPTS, log.read_text()
    try:
        yield found[1], key
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
