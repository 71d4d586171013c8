"""Stages that are forked from a process that has imported: as in interpreters of their own, or in one of their own."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra import stage_process
from infra.manifest import Manifest
from infra.runner import StageError, StageKilledError, make
from infra.store import LocalStore
from infra.threads import CHOICES, SPINS
from tests.infra.test_runner import PATIENCE, in_process, job_of, wait_for, wait_gone

SERVER = "infra.stage_server"
ALONE = "infra.supervisor"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of stages, as a file that processes of stages find."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return tmp_path / f"stages_{tmp_path.name}.py"


def write(code: Path, what: str, before: str = "") -> None:
    """A stage `found` that returns the value of an expression."""
    code.write_text(
        f"import os, threading, psutil\nfrom tests.infra.fake_stages import FakeConfig\n{before}\n"
        f"def found(config: FakeConfig, inputs, out_dir):\n"
        f"    return {{'found': {what}, 'program': psutil.Process().parent().cmdline()[2]}}\n"
    )


def made(store: LocalStore, function: str = "tells_how_it_runs", **config: Any) -> dict[str, Any]:
    """The metrics of a stage that runs now."""
    return dict(make(store, job_of(function, text=str(time.time_ns()), **config), lambda event: None)[0].metrics)


def run(store: LocalStore, code: Path) -> Manifest:
    """Run the stage of `code`."""
    job = job_of("", text=str(time.time_ns()))
    return make(store, replace(job, entrypoint=f"{code.stem}:found"), lambda event: None)[0]


def test_a_forked_stage_is_as_one_alone(store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Second of a server: the first has left nothing behind; and it sees folder and variables as they are by now."""
    made(store)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPMILL_TEST", "now")
    old = os.umask(0o077)
    try:
        forked = made(store)
        with monkeypatch.context() as patch:
            patch.setattr(stage_process._Keeper, "fork", lambda self, what: None)
            alone = made(store)
    finally:
        os.umask(old)
    assert (forked.pop("program"), alone.pop("program")) == (SERVER, ALONE)
    assert forked.pop("above") != os.getpid()
    assert alone.pop("above") == os.getpid()
    assert forked == alone
    assert forked["variables"]["DEEPMILL_TEST"] == "now"
    assert forked["folder"] == str(tmp_path)


def test_threads_of_a_stage_soon_sleep_where_the_user_did_not_choose(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CHOICES:
        monkeypatch.delenv(name, raising=False)
    assert made(store)["variables"]["GOMP_SPINCOUNT"] == SPINS
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    chosen = made(store)["variables"]
    assert (chosen["GOMP_SPINCOUNT"], chosen["OMP_WAIT_POLICY"]) == (None, "active")


def test_one_server_while_nothing_changes(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(store)["above"]
    assert made(store)["above"] == first
    monkeypatch.setenv("OTHER_TEST", "read by a library as it is loaded")
    other = made(store)
    assert other["above"] != first
    assert other["variables"]["OTHER_TEST"]
    assert wait_gone(first, PATIENCE)


def test_code_that_changed_on_disk_runs_as_it_is_now(store: LocalStore, code: Path) -> None:
    for value in (1, 22):
        write(code, str(value))
        assert run(store, code).metrics == {"found": value, "program": SERVER}


@pytest.mark.parametrize(
    ("before", "program"),
    [
        ("threading.Thread(target=threading.Event().wait, daemon=True).start()", ALONE),
        ("import sys; sys.orig_argv[2] == 'infra.stage_server' and os.abort()", ALONE),
        ("import sys; sys.modules['__main__'].GPUS = ('/dev/null',)", ALONE),
        ("import numpy; numpy.ones((300, 300)) @ numpy.ones((300, 300))", SERVER),
    ],
    ids=["a thread", "a server that breaks down", "a device that is open", "threads that know of forks"],
)
def test_what_cannot_be_forked_is_not(store: LocalStore, code: Path, before: str, program: str) -> None:
    write(code, "7", before)
    assert [run(store, code).metrics for _ in range(2)] == 2 * [{"found": 7, "program": program}]
    assert made(store)["program"] == SERVER  # others are


def test_a_server_that_hangs_is_no_more_than_slow(
    store: LocalStore, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the wait and the server; who is patient has an interpreter of the stage's own in the end."""
    pids = tmp_path / "pids"
    hang = f"open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    write(code, "7", f"import sys, time\nif sys.orig_argv[2] == 'infra.stage_server':\n    {hang}")

    def press() -> None:
        wait_for(pids)
        os.kill(os.getpid(), signal.SIGINT)

    interrupt = threading.Thread(target=press)
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        run(store, code)
    interrupt.join()
    monkeypatch.setattr(stage_process, "START_SECONDS", 0.2)
    assert run(store, code).metrics["program"] == ALONE
    assert all(wait_gone(server, PATIENCE) for server in wait_for(pids))


def test_a_flow_that_is_killed_during_an_import_takes_the_server_along(store: LocalStore, code: Path) -> None:
    pids = code.with_name("pids")
    write(code, "7", f"import time\nopen({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)")
    flow = in_process(store.root, replace(job_of(""), entrypoint=f"{code.stem}:found"))
    (server,) = wait_for(pids)
    flow.kill()
    assert wait_gone(server, PATIENCE)


def test_an_import_that_fails_is_told_by_the_stage(store: LocalStore, code: Path) -> None:
    write(code, "7", "import no_such_module")
    with pytest.raises(StageError, match="ModuleNotFoundError: No module named 'no_such_module'") as raised:
        run(store, code)
    assert "Traceback" in Path(str(raised.value).rsplit(" in ", 1)[1]).read_text()


def test_stages_run_beside_each_other(store: LocalStore, tmp_path: Path) -> None:
    """Each waits for what the other writes; their server outlives the threads that have it started."""
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    jobs = [job_of("tells_how_it_runs", text=b, pid_file=a), job_of("tells_how_it_runs", text=a, pid_file=b)]
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda job: make(store, job, lambda event: None)[0], jobs))
    assert {manifest.metrics["above"] for manifest in both} == {made(store)["above"]}


def test_processor_time_is_that_of_the_stage_and_its_import(store: LocalStore, code: Path) -> None:
    """A server that was stopped for another stage's sake counts for none."""
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    write(code, "7", burn)
    spent = [run(store, code).cost["cpu_seconds"] for _ in range(2)]
    assert spent[0] > 0.3 > spent[1] > 0


def test_a_killed_server_ends_its_stages(store: LocalStore, tmp_path: Path) -> None:
    job = job_of("write", seconds=600.0, pid_file=str(tmp_path / "pids"))

    def kill() -> None:
        (worker,) = wait_for(tmp_path / "pids")
        supervisor = psutil.Process(worker).parent()
        assert supervisor
        os.kill(supervisor.ppid(), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(StageKilledError, match="SIGKILL"):
        make(store, job, lambda event: None)
    killer.join()
    assert not any(map(psutil.pid_exists, wait_for(tmp_path / "pids")))
    assert isinstance(make(store, job_of("write", text="after"), lambda event: None)[0], Manifest)
