"""Ctrl-C and SIGTERM: one line and the status of a shell, whenever they come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli import main
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


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signals as they are: a command that was stopped takes none any more, for its process is about to end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_says_how_it_goes_on(
    number: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process; `tests.flows.test_kills` has whole runs."""
    monkeypatch.setattr("sys.argv", ["deepmill", "run", "tiny.yaml"])
    monkeypatch.setattr("flows.recipe.recipe.load_recipe", lambda *arguments: signal.raise_signal(number))
    with pytest.raises(SystemExit, match=str(status)):
        main()
    assert capsys.readouterr().err == "stopped; finished stages are kept; the same command goes on from there\n"


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
