"""Keeps a group of long-running programs up: starts them wave by wave, restarts what falls over, stops them last-first.

``python -m infra.services FOLDER`` takes the group as JSON on standard input, so that secrets in it never touch the
disk, and stays until SIGTERM. FOLDER holds `state.json` (what runs, for people and for the client functions here), a
lock that the kernel keeps as long as the keeper lives, and a log per service; all of it, and what the programs write,
is for its owner alone. Knows nothing of what the programs are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO

from pydantic import BaseModel, Field

from infra.durable import write_durably
from infra.errors import UserError
from infra.facts import Facts
from infra.private_files import PRIVATE_UMASK, private_folder
from infra.processes import ProcessMark, birth, python_path, send_signal, this_process

__all__ = [
    "Group",
    "GroupState",
    "Service",
    "ServiceState",
    "answers",
    "is_kept",
    "keep",
    "log_file",
    "read_state",
    "start_group",
    "stop_group",
]

STATE = "state.json"

POLL_SECONDS = 0.2
START_SECONDS = 300.0
"""A first start of the servers makes their databases."""
STOP_SECONDS = 60.0
BACKOFF = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a restart, longer each time it falls over again soon."""
SETTLED_SECONDS = 60.0
"""Up this long, a service counts as healthy again."""
UNHEALTHY = ("failed", "restarting", "starting")
"""States of a service that may be why the others do not come up, the likeliest first."""
KEEPER_SECONDS = 5.0
"""A keeper that holds the lock has written its state after so long."""
LOG_BYTES = 32 << 20
"""A log that grows beyond is set aside as NAME.log.1."""


class Service(BaseModel):
    """One program."""

    name: str
    command: list[str]
    environment: dict[str, str] = {}
    wave: int = 0
    """Started once every service of the waves before is ready."""
    ready: str = ""
    """Address that answers 200 when it is; without one it is ready as soon as it runs."""
    once: bool = False
    """A step that runs to its end and must succeed, not a service."""
    address: str = ""
    """Where people find it."""
    child_first: float = 0.0
    """Seconds that the program has to end what it started by itself; see `infra.supervisor`."""


class Group(BaseModel):
    """Services that belong together."""

    services: list[Service]
    echo: bool = False
    """What the services say goes to this process' output, for containers, rather than to a log each."""
    facts: dict[str, str] = {}
    """Kept in the state file for clients; no secrets."""


class ServiceState(Facts):
    """One service, as its keeper sees it."""

    state: str
    """waiting, starting, running (a step), up, restarting, done, failed or stopped"""
    restarts: int = 0
    pid: int | None = None
    address: str = ""
    once: bool = False


class GroupState(ProcessMark):
    """What ``state.json`` says: the keeper's process, and how the services do."""

    started: str = ""
    """UTC, ISO 8601."""
    state: str = ""
    """starting, up, failed or stopped"""
    facts: dict[str, str] = Field(default_factory=dict)
    services: dict[str, ServiceState] = Field(default_factory=dict)


class _SupervisedProcess:
    """A service while it is kept."""

    def __init__(self, service: Service, logs: Path, echo: bool) -> None:
        self.service, self._log, self._echo = service, logs / f"{service.name}.log", echo
        self.process: subprocess.Popen[bytes] | None = None
        self.state, self.restarts = "waiting", 0
        self.since = self._retry_at = 0.0
        self._falls = 0

    def start(self) -> None:
        self._set_log_aside()
        command = [sys.executable, "-m", "infra.supervisor"]
        if self.service.child_first:
            command += ["--child-first", str(self.service.child_first)]
        with self._log.open("ab") as log:
            log.write(f"--- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} start of {self.service.name}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [*command, str(os.getpid()), *self.service.command],
                env=os.environ | self.service.environment,
                stdin=subprocess.DEVNULL,
                stdout=None if self._echo else log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.state, self.since = "starting", time.monotonic()

    def _set_log_aside(self) -> None:
        """Copied and truncated, for the program goes on writing to the same open file."""
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES:
            shutil.copyfile(self._log, self._log.with_suffix(".log.1"))
            os.truncate(self._log, 0)

    def look(self) -> bool:
        """See how it does, start it again if it fell over and waited long enough; whether anything changed."""
        before = (self.state, self.restarts)
        if self.process is None or self.state in ("done", "failed"):
            return False
        status = self.process.poll()
        if status is None:
            if self.state == "starting" and (not self.service.ready or answers(self.service.ready)):
                self.state = "running" if self.service.once else "up"
            if self.state == "up" and time.monotonic() - self.since > SETTLED_SECONDS:
                self._falls = 0
                self._set_log_aside()
        elif self.service.once:
            self.state = "done" if status == 0 else "failed"
        elif self.state != "restarting":
            self.state = "restarting"
            self._retry_at = time.monotonic() + BACKOFF[min(self._falls, len(BACKOFF) - 1)]
            self._falls += 1
        elif time.monotonic() >= self._retry_at:
            self.restarts += 1
            self.start()
        return before != (self.state, self.restarts)

    @property
    def ready(self) -> bool:
        return self.state in ("up", "done")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        self.state = "stopped"

    def entry(self) -> ServiceState:
        return ServiceState(
            state=self.state,
            restarts=self.restarts,
            pid=self.process.pid if self.process else None,
            address=self.service.address,
            once=self.service.once,
        )


def keep(folder: Path, group: Group) -> int:
    """Keep `group` up until SIGTERM; the status is 1 when a step failed before everything was up."""
    os.umask(PRIVATE_UMASK)  # of the services, too
    private_folder(folder)
    (folder / "logs").mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stopping = False

        def stop(signum: int, frame: FrameType | None) -> None:
            nonlocal stopping
            stopping = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        kept = [_SupervisedProcess(service, folder / "logs", group.echo) for service in group.services]
        started = datetime.now(UTC).isoformat(timespec="seconds")

        def tell(state: str) -> None:
            services = {item.service.name: item.entry() for item in kept}
            told = GroupState(
                **dict(this_process()), started=started, state=state, facts=group.facts, services=services
            )
            write_durably(folder / STATE, told.model_dump_json(indent=2).encode())

        tell("starting")
        state = "starting"
        while not stopping:
            changed = False
            for item in kept:
                waits_for = [other for other in kept if other.service.wave < item.service.wave]
                if item.state == "waiting" and all(other.ready for other in waits_for):
                    item.start()
                    changed = True
                changed |= item.look()
            failed = any(item.state == "failed" for item in kept)
            fresh = "failed" if failed else "up" if all(item.ready for item in kept) else "starting"
            if changed or fresh != state:
                state = fresh
                tell(state)
            if failed:
                break
            time.sleep(POLL_SECONDS)
        for item in reversed(kept):
            item.stop()
        if state != "failed":
            tell("stopped")
        return 1 if state == "failed" else 0


def answers(address: str) -> bool:
    """Whether a GET of `address` is answered with 200."""
    try:
        with urllib.request.urlopen(address, timeout=3) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def read_state(folder: Path) -> GroupState | None:
    """What the keeper of `folder` last wrote; None when no keeper runs there, or it begins just now."""
    return _state_file(folder) if is_kept(folder) else None


def _state_file(folder: Path) -> GroupState | None:
    try:
        return GroupState.model_validate_json((folder / STATE).read_bytes())
    except FileNotFoundError:
        return None


def is_kept(folder: Path) -> bool:
    """Whether a keeper holds the lock: true whatever became of the process number in the state file. What another user
    keeps is not for this one."""
    unseen = (FileNotFoundError, NotADirectoryError, PermissionError)
    with contextlib.suppress(*unseen), (folder / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def start_group(folder: Path, group: Group) -> Iterator[GroupState]:
    """Start a keeper in the background; yields its state as it changes, the last one when everything is up.

    Raises:
        UserError: one runs there already, or a service does not come up (everything is stopped again).
    """
    if is_kept(folder):
        raise UserError(f"{folder}: already up; deepmill status shows what runs, deepmill down stops it")
    private_folder(folder)
    (folder / STATE).unlink(missing_ok=True)
    with _append_private(folder / "keeper.log") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "infra.services", str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": python_path()},
        )
    assert keeper.stdin is not None
    with keeper.stdin as pipe:
        pipe.write(group.model_dump_json().encode())
    deadline = time.monotonic() + START_SECONDS
    last: GroupState | None = None
    while True:
        state = _state_file(folder)
        if state and state != last:
            last = state
            yield state
        if state and state.state == "up":
            return
        if keeper.poll() is not None or time.monotonic() > deadline:
            services = last.services if last else {}
            culprits = [name for bad in UNHEALTHY for name, entry in services.items() if entry.state == bad]
            stop_group(folder)
            raise UserError(_failure(folder, culprits))
        time.sleep(POLL_SECONDS)


def _failure(folder: Path, names: list[str]) -> str:
    for name in names:
        path = log_file(folder, name)
        text = path.read_text(errors="replace") if path.exists() else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return f"{name} does not come up: {lines[-1].strip() if lines else 'it says nothing'}; its log is {path}"
    return f"the services do not come up; the log is {folder / 'keeper.log'}"


def _append_private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "ab")


def stop_group(folder: Path) -> bool:
    """Stop the keeper of `folder` and all it keeps, last service first; whether one ran.

    Signals nobody but the process that the state file tells of: of this machine, of this boot, born when it was.

    Raises:
        UserError: a keeper runs there that this process cannot prove to be the one of the state file.
    """
    if not is_kept(folder):
        return False
    _signal_keeper(folder, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while is_kept(folder):
        if time.monotonic() > deadline:  # its supervisors notice, and end everything below them
            _signal_keeper(folder, signal.SIGKILL)
            deadline = time.monotonic() + STOP_SECONDS
        time.sleep(POLL_SECONDS)
    return True


def _signal_keeper(folder: Path, number: int) -> None:
    """Signal the keeper; one that starts just now writes its state in a moment."""
    deadline = time.monotonic() + KEEPER_SECONDS
    while is_kept(folder):
        state = _state_file(folder)
        if state and state.host != socket.gethostname():
            raise UserError(f"{folder}: up on the machine {state.host}, and only there it can be stopped")
        if state and not state.born:
            state = state.model_copy(update={"born": _birth_of_older(folder, state.pid)})
        if state and send_signal(state, number):
            return
        if time.monotonic() > deadline:
            raise UserError(
                f"{folder}: something holds its lock, and it is not the process of state.json; "
                f"`fuser {folder / 'lock'}` shows what to stop"
            )
        time.sleep(POLL_SECONDS)


def _birth_of_older(folder: Path, pid: int) -> str | None:
    """When the keeper of an older version, whose state does not say it, was born: known by its command."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"infra.services" in command and str(folder).encode() in command:
            return birth(pid)
    return None


def log_file(folder: Path, name: str) -> Path:
    """Where a service's output goes."""
    return folder / "logs" / f"{name}.log"


def main(stream: IO[str], folder: Path) -> int:
    """Keep the group that `stream` describes."""
    return keep(folder, Group.model_validate_json(stream.read()))


if __name__ == "__main__":
    sys.exit(main(sys.stdin, Path(sys.argv[1])))
