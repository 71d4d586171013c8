"""Starts the process of a stage, below a supervisor: forked by the flow's stage server, else in a fresh interpreter.

The server (`infra.stage_server`) is started with the first stage and kept for those that follow. A stage whose process
could not be the same as in an interpreter of its own has one, as every stage has if servers do not come up.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.stage_server import Ended, Refused, Request

__all__ = ["Begin", "StageProcess", "begin"]

POLL_SECONDS = 0.05
STOP_SECONDS = 12.0
"""How long the supervisor may take to end a stage's processes, its own grace included."""
START_SECONDS = 120.0
"""How long a server may take to import what a stage needs, on a machine with other work."""
READ_LATER = ("DEEPMILL_", "PREFECT_", "PYTEST_")
"""Begin the names of variables that no library reads as it is loaded."""
LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


@dataclass(frozen=True)
class Begin:
    """What a stage's process begins with."""

    job: Path
    """File of the `infra.stage_job.StageJob`."""
    modules: tuple[str, ...]
    """To be imported before it is forked: that of its entry point, and others."""
    variables: Mapping[str, str]
    log: int
    """Descriptor of a file for all that is printed."""
    lease: int | None
    """Descriptor that the supervisor keeps open for as long as anything of the stage is there."""


class StageProcess(ABC):
    """A stage's process, by its supervisor."""

    cpu_seconds = 0.0
    """Of all that ran for the stage, once it has ended."""

    @abstractmethod
    def poll(self) -> int | None:
        """The supervisor's exit status, as `subprocess.Popen.poll` has it."""

    @abstractmethod
    def _send(self, number: int) -> None:
        """Send the supervisor a signal."""

    def stop(self) -> None:
        """End the whole tree: the supervisor does it on SIGTERM."""
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self.poll() is None:
            if time.monotonic() > deadline:
                self._send(signal.SIGKILL)
            time.sleep(POLL_SECONDS)


def begin(what: Begin) -> StageProcess:
    """Start a stage."""
    return (_keeper.fork(what) if _has_descriptors() else None) or _Fresh(what)


@cache
def _has_descriptors() -> bool:
    """Whether this system has descriptors of processes (Linux 5.3), by which a server's are told and signalled."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


class _Fresh(StageProcess):
    """In an interpreter of its own."""

    def __init__(self, what: Begin) -> None:
        command = [sys.executable, "-m", "infra.supervisor", str(os.getpid())]
        self._process = subprocess.Popen(
            [*command, sys.executable, "-m", "infra.worker", str(what.job)],
            env=what.variables,
            stdin=subprocess.DEVNULL,
            stdout=what.log,
            stderr=subprocess.STDOUT,
            pass_fds=() if what.lease is None else (what.lease,),
            start_new_session=True,  # Ctrl-C is for the flow alone, which then stops the stage in order
        )

    def poll(self) -> int | None:
        if self._process.returncode is None:
            ended, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if ended:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self.cpu_seconds = usage.ru_utime + usage.ru_stime
        return self._process.returncode

    def _send(self, number: int) -> None:
        self._process.send_signal(number)


class _Forked(StageProcess):
    """By a server, which tells of its end."""

    def __init__(self, server: socket.socket, held: int) -> None:
        self._server, self._held = server, held
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None and _is_readable(self._server, 0):
            if message := self._server.recv(4096):
                ended = Ended.model_validate_json(message)
                self._code, self.cpu_seconds = ended.code, ended.cpu_seconds
            else:  # the server was killed, and then the supervisor has ended as well, which holds the other end too
                self._code = 128 + signal.SIGKILL
            self._server.close()
            os.close(self._held)
        return self._code

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._held, number)


def _is_readable(end: socket.socket, seconds: float) -> bool:
    waiting = select.poll()
    waiting.register(end, select.POLLIN)
    return bool(waiting.poll(1000 * seconds))


class _Server:
    """A stage server of this process."""

    def __init__(self, began: tuple[object, ...], variables: Mapping[str, str]) -> None:
        self.began = began
        """`_circumstances` under which it was started."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process: Future[subprocess.Popen[bytes]] = Future()
        # The kernel ends the server with the thread that started it: here one that stays as long as the server does.
        self._thread = threading.Thread(target=self._keep, args=(theirs, variables, process), daemon=True)
        self._thread.start()
        self._process = process.result()
        atexit.register(self._end)

    @staticmethod
    def _keep(theirs: socket.socket, variables: Mapping[str, str], process: Future[subprocess.Popen[bytes]]) -> None:
        try:
            with theirs:
                started = subprocess.Popen(
                    [sys.executable, "-m", "infra.stage_server", str(theirs.fileno()), str(os.getpid())],
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except BaseException as error:
            process.set_exception(error)
            return
        process.set_result(started)
        started.wait()

    def fork(self, what: Begin) -> _Forked | Refused | None:
        """The stage's process; None where the server is gone."""
        request = Request(job=str(what.job), modules=what.modules, variables=dict(what.variables))
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.open(".", os.O_PATH)
        descriptors = [theirs.fileno(), what.log, folder, *(() if what.lease is None else (what.lease,))]
        try:
            with theirs:
                socket.send_fds(self._control, [request.model_dump_json().encode()], descriptors)
            if _is_readable(mine, START_SECONDS):
                return self._answer(mine)
        except OSError:  # nothing was sent: it has ended; or there are more variables than a message has room for
            mine.close()
            return None
        except BaseException:
            self._abandon(mine)
            raise
        finally:
            os.close(folder)
        self._abandon(mine)
        return None

    @staticmethod
    def _answer(mine: socket.socket) -> _Forked | Refused | None:
        message, held, _, _ = socket.recv_fds(mine, 4096, 1, socket.MSG_CMSG_CLOEXEC)
        if held:
            return _Forked(mine, held[0])
        mine.close()
        return Refused.model_validate_json(message) if message else None

    def _abandon(self, mine: socket.socket) -> None:
        """Kill the server, for it may be about to fork, and see a supervisor end that it may have forked already."""
        self._process.kill()
        with mine, contextlib.suppress(OSError):
            while mine.recv(4096):
                pass

    def retire(self) -> None:
        """Let it end after the stages that it has now."""
        self._control.close()
        atexit.unregister(self._end)

    def _end(self) -> None:
        if self.began[0] == os.getpid():  # not in a process that was forked from the one that it serves
            self._process.kill()
            self._thread.join()


class _Keeper:
    """The server of the moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._apart: set[tuple[str, ...]] = set()
        """Modules after which no process can be forked."""

    def fork(self, what: Begin) -> _Forked | None:
        with self._lock:
            for _ in range(2):  # the second server has loaded today's code
                if what.modules in self._apart:
                    break
                answer = self._suitable(what).fork(what)
                if isinstance(answer, _Forked):
                    return answer
                self._retire()
                if answer and not answer.by_another:
                    self._apart.add(what.modules)
        return None

    def _suitable(self, what: Begin) -> _Server:
        now = _circumstances(what.variables)
        if self._server and self._server.began != now:
            self._retire()
        self._server = self._server or _Server(now, what.variables)
        return self._server

    def _retire(self) -> None:
        if self._server:
            self._server.retire()
        self._server = None


def _circumstances(variables: Mapping[str, str]) -> tuple[object, ...]:
    """What a process takes over from the one that starts it, and cannot change afterwards."""
    return (
        os.getpid(),
        {name: value for name, value in variables.items() if not name.startswith(READ_LATER)},
        [resource.getrlimit(limit) for limit in LIMITS],
        os.sched_getaffinity(0),
        os.getpriority(os.PRIO_PROCESS, 0),
    )


_keeper = _Keeper()
