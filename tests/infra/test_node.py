"""The process that runs torchrun on a node: when it gives up, and what it says of torchrun's end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from infra.launch.node import LOST

WATCH = (
    "import os, sys; from infra.launch.node import _watched; sys.exit(_watched(sys.argv[1:], dict(os.environ), 1.0))"
)
ONE_RANK = "import subprocess, time; subprocess.Popen(['sleep', '1']); time.sleep(100)"
"""Its child has ended after a second, and is not collected."""


@pytest.mark.parametrize(
    ("program", "status"),
    [
        (ONE_RANK, LOST),
        ("raise SystemExit(3)", 3),
        ("import time; time.sleep(3)", 0),  # no rank yet
        ("import os; os.kill(os.getpid(), 9)", 137),
    ],
)
def test_the_status_of_a_node(program: str, status: int) -> None:
    command = [sys.executable, "-c", WATCH, sys.executable, "-c", program]
    assert subprocess.run(command, env=os.environ, timeout=120, check=False).returncode == status
