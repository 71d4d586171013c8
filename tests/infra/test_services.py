"""The keeper of services: order, readiness, restart, failure, stop, and what a kill of the keeper leaves: nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infra import services
from infra.errors import UserError
from infra.processes import birth, free_ports
from infra.services import Group, Service, answers, log_file, read_state, start_group, stop_group


def web(name: str, port: int, wave: int = 0) -> Service:
    """A small HTTP server."""
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    address = f"http://127.0.0.1:{port}/"
    return Service(name=name, command=command, ready=address, address=address, wave=wave)


def step(name: str, program: str, wave: int = 0) -> Service:
    return Service(name=name, command=[sys.executable, "-c", program], once=True, wave=wave)


def until(condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_waves_restart_and_stop(tmp_path: Path) -> None:
    port = free_ports()[0]
    ask = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/')"
    group = Group(services=[web("web", port), step("after", ask, wave=1)], facts={"web": f"port {port}"})
    last = list(start_group(tmp_path, group))[-1]
    assert last.state == "up"
    assert last.services["after"].state == "done"  # it would have failed before the server answered
    assert last.facts == {"web": f"port {port}"}
    with pytest.raises(UserError, match="already up"):
        list(start_group(tmp_path, group))

    (server,) = [process for process in below(last.pid) if "http.server" in process.cmdline()[3:4]]
    server.kill()
    until(lambda: (state := read_state(tmp_path)) and state.services["web"].restarts == 1)
    until(lambda: answers(f"http://127.0.0.1:{port}/"))
    assert log_file(tmp_path, "web").read_text().count("start of web") == 2

    family = below(last.pid)
    assert stop_group(tmp_path)
    assert read_state(tmp_path) is None
    assert not psutil.wait_procs(family, timeout=90)[1]
    assert not stop_group(tmp_path)


def test_a_step_that_fails_stops_it_all_and_is_named(tmp_path: Path) -> None:
    port = free_ports()[0]
    group = Group(services=[web("web", port), step("bad", "import sys; sys.exit('the reason')", wave=1)])
    with pytest.raises(UserError, match="bad does not come up: the reason; its log is"):
        list(start_group(tmp_path, group))
    assert read_state(tmp_path) is None
    assert not answers(f"http://127.0.0.1:{port}/")


def test_a_step_that_fails_is_named_before_one_that_still_starts(tmp_path: Path) -> None:
    deaf = Service(name="deaf", command=["sleep", "60"], ready=f"http://127.0.0.1:{free_ports()[0]}/")
    group = Group(services=[deaf, step("bad", "import sys; sys.exit('the reason')")])
    with pytest.raises(UserError, match="bad does not come up: the reason"):
        list(start_group(tmp_path, group))


def test_orphans_that_end_are_buried(tmp_path: Path) -> None:
    """A worker that stays up for weeks leaves many behind: grandchildren whose parent went first."""
    program = (
        "import subprocess, sys, time\n"
        "for _ in range(5): subprocess.run(['sh', '-c', 'sleep 0.2 &'])\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    group = Group(services=[Service(name="worker", command=[sys.executable, "-c", program])])
    last = list(start_group(tmp_path, group))[-1]
    until(lambda: "ready" in log_file(tmp_path, "worker").read_text())
    until(lambda: len(below(last.pid)) == 2)  # the supervisor and the program
    assert stop_group(tmp_path)


def test_a_killed_keeper_leaves_no_process(tmp_path: Path) -> None:
    port = free_ports()[0]
    last = list(start_group(tmp_path, Group(services=[web("web", port)])))[-1]
    family = below(last.pid)
    os.kill(last.pid, signal.SIGKILL)
    assert not psutil.wait_procs(family, timeout=90)[1]
    assert read_state(tmp_path) is None
    assert list(start_group(tmp_path, Group(services=[web("web", port)])))[-1].state == "up"  # and it starts again
    assert stop_group(tmp_path)


def start_and_stop(root: Path, program: str, child_first: float) -> None:
    """Run `program` as a service until it says that it is ready, then stop it in order."""
    service = Service(name="worker", command=[sys.executable, "-c", program], child_first=child_first)
    assert list(start_group(root, Group(services=[service])))[-1].state == "up"
    until(lambda: "ready" in log_file(root, "worker").read_text())
    stop_group(root)


def test_the_child_is_asked_first(tmp_path: Path) -> None:
    """A worker ends what it started in its own order: its children get their SIGTERM from it, not from above."""
    child = (
        "import signal, time; signal.signal(15, lambda *a: (print('child asked', flush=True), exit())); time.sleep(60)"
    )
    parent = (
        "import signal, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "def leave(*a):\n"
        "    print('parent asked', flush=True); time.sleep(0.5); print('parent asks', flush=True)\n"
        "    child.terminate(); child.wait(); sys.exit()\n"
        "signal.signal(15, leave); time.sleep(0.5); print('ready', flush=True); time.sleep(60)"
    )
    start_and_stop(tmp_path, parent, child_first=5)
    told = [line for line in log_file(tmp_path, "worker").read_text().splitlines() if "ask" in line]
    assert told == ["parent asked", "parent asks", "child asked"]


def test_a_program_may_stop_on_sigint(tmp_path: Path) -> None:
    """As Prefect's worker does, which sends itself one when it is asked to stop."""
    program = (
        "import os, signal, time\n"
        "signal.signal(15, lambda *a: os.kill(os.getpid(), 2))\n"
        "print('ready', flush=True)\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: print('stopped in order', flush=True)"
    )
    start_and_stop(tmp_path, program, child_first=20)
    assert "stopped in order" in log_file(tmp_path, "worker").read_text()


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Somebody else holds the lock of the folder."""
    program = (
        "import fcntl, sys, time\n"
        "lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX); print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(folder / "lock")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        yield
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"born": "another boot/17"}, "it is not the process of state.json"),
        ({}, "it is not the process of state.json"),  # as older versions wrote it
        ({"host": "another-machine"}, "up on the machine another-machine"),
        ({"host": "another-machine", "born": "itself"}, "up on the machine another-machine"),
    ],
)
def test_a_number_that_was_given_again_is_not_signalled(
    tmp_path: Path, told: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "KEEPER_SECONDS", 0.0)
    bystander = subprocess.Popen(["sleep", "600"])
    told = {name: str(birth(bystander.pid)) if value == "itself" else value for name, value in told.items()}
    state = {"pid": bystander.pid, "host": socket.gethostname(), "state": "up", "services": {}} | told
    (tmp_path / "state.json").write_text(json.dumps(state))
    try:
        with held(tmp_path), pytest.raises(UserError, match=says):
            stop_group(tmp_path)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_keeper_of_an_older_version_is_known_by_its_command(tmp_path: Path) -> None:
    program = "import time; print('ready', flush=True); time.sleep(600)"
    service = Service(name="worker", command=[sys.executable, "-c", program])
    last = list(start_group(tmp_path, Group(services=[service])))[-1]
    (tmp_path / "state.json").write_text(last.model_dump_json(exclude={"born"}))
    assert stop_group(tmp_path)


def test_what_is_kept_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Made now, or left open by an older version."""
    folder = tmp_path / "services"
    (folder / "logs").mkdir(parents=True, mode=0o755)
    for name in ("keeper.log", "old.db", "logs/writes.log"):
        (folder / name).write_text("open to all")
        (folder / name).chmod(0o644)
    program = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('new')"
    writes = Service(name="writes", command=[sys.executable, "-c", program, str(folder / "new.db")], once=True)
    list(start_group(folder, Group(services=[writes])))
    assert stop_group(folder)
    found = [folder, *folder.rglob("*")]
    assert {path.name for path in found} >= {"state.json", "keeper.log", "old.db", "new.db", "writes.log", "lock"}
    assert not [path for path in found if path.stat().st_mode & 0o077]


def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    folder = tmp_path / "services"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with pytest.raises(UserError, match="belongs to another user"):
        list(start_group(folder, Group(services=[])))
