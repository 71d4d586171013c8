"""Ctrl-C and SIGTERM: one line and the status of a shell, whenever they come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.services import log_file
from tests.flows.tiny import environment

COMMAND = [sys.executable, "-m", "flows"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_says_so(number: int, status: int, tmp_path: Path) -> None:
    log = log_file(tmp_path / "store" / ".services", "prefect")
    log.parent.mkdir(parents=True)
    log.write_text("it is up\n")
    follow = [*COMMAND, "logs", "prefect", "--follow"]
    with subprocess.Popen(follow, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"it is up\n"
        process.send_signal(number)
        _, told = process.communicate()
    assert (process.returncode, told) == (status, b"stopped\n")


def test_ctrl_c_before_the_commands_are_imported(tmp_path: Path) -> None:
    """A module that stops at the import of the first command, until the signal has come."""
    (tmp_path / "yaml.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(60)\n"
    )
    variables = environment(tmp_path) | {
        "PYTHONPATH": os.pathsep.join((str(tmp_path), environment(tmp_path)["PYTHONPATH"]))
    }
    done = subprocess.run([*COMMAND, "status"], env=variables, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"stopped\n")
