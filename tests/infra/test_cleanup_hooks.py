"""What a stage started elsewhere ends with it: registered commands run unless the stage takes them back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.cleanup_hooks import ENVIRONMENT_KEY, cleanup_hook, run_cleanup_hooks
from infra.manifest import Manifest
from infra.runner import make
from infra.store import LocalStore
from tests.infra.test_runner import PATIENCE, in_process, job_of, wait_for


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "endings"
    monkeypatch.setenv(ENVIRONMENT_KEY, str(folder))
    return folder


def test_a_block_that_ends_well_takes_its_command_back(registered: Path, tmp_path: Path) -> None:
    with cleanup_hook(["touch", str(tmp_path / "ran")]):
        assert len(list(registered.iterdir())) == 1
    run_cleanup_hooks()
    assert not (tmp_path / "ran").exists()


def test_an_exception_runs_it_at_once(registered: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit), cleanup_hook(["touch", str(tmp_path / "ran")]):
        raise SystemExit(143)
    assert (tmp_path / "ran").exists()
    assert list(registered.iterdir()) == []


def test_one_that_fails_is_told_and_the_others_run(
    registered: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import os; from infra.cleanup_hooks import cleanup_hook\n"
        "with cleanup_hook(['false']), cleanup_hook(['no-such-program']), "
        f"cleanup_hook(['touch', {str(tmp_path / 'ran')!r}]):\n"
        "    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    run_cleanup_hooks()
    assert (tmp_path / "ran").exists()
    assert capfd.readouterr().err.count("could not end what was started elsewhere") == 2
    run_cleanup_hooks()  # forgotten
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("victim", ["stage", "flow", "supervisor"])
def test_whoever_is_killed(tmp_path: Path, victim: str) -> None:
    """Stage and flow: the supervisor runs the command. The supervisor itself: the next attempt does."""
    store = LocalStore(tmp_path / "store")
    pids, ran = tmp_path / "pids", tmp_path / "ran"
    job = job_of("with_work_elsewhere", pid_file=str(pids), text=str(ran))
    runner = in_process(store.root, job)
    (stage,) = wait_for(pids)
    supervisor = int(Path(f"/proc/{stage}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill({"stage": stage, "flow": runner.pid, "supervisor": supervisor}[victim], signal.SIGKILL)
    runner.wait(PATIENCE)
    if victim == "supervisor":
        assert not ran.exists()
        manifest: Manifest = make(store, job, lambda event: None)[0]
        assert manifest.metrics == {"ran": True}
    else:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and list(store.root.rglob("*.endings/*.json")):
            time.sleep(0.05)
        assert ran.exists()
    assert not list(store.root.rglob("*.endings/*.json"))
