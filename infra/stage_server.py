"""A process that has imported what stages need and forks a process for each: the import is paid once for a whole run.

``python -m infra.stage_server DESCRIPTOR FLOW`` is started by `infra.stage_process`, and the kernel ends it with the
process FLOW. Over the socket DESCRIPTOR it is asked (`Request`) to import the stage's module and to fork. The child is
the stage's supervisor, which forks the stage's process: what `infra.supervisor` and `infra.worker` do as programs,
without two starts of Python. A supervisor takes the end of this process for the end of the flow.

It refuses where a stage could not be as in an interpreter of its own: where it would fork beside threads that know
nothing of forks or after it opened a GPU, and where code has changed on disk since it was loaded. Variables that
libraries look at as they are loaded must be those that it was started with; `infra.stage_process` sees to that.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from infra import worker
from infra.facts import Facts
from infra.supervisor import die_with_parent, stand_by, watch

__all__ = ["Ended", "Refused", "Request"]

MESSAGE = 1 << 22
"""More than the kernel lets through a socket in one piece."""
IDLE_SECONDS = 60.0
"""Without a stage for so long it ends, so as not to hold memory."""
GPUS = ("/dev/nvidia", "/dev/kfd", "/dev/dri", "/dev/accel")
"""What a process has open that has spoken to a GPU, and must not fork any more."""
FORK_SAFE = frozenset({"jemalloc_bg_thd"})
"""Names of threads without which a child goes on: Arrow's allocator registers what it has to do at a fork."""
TASKS = Path("/proc/self/task")


class Request(Facts):
    """A stage to be started. With it go descriptors: where to answer, the log, the folder to work in, the lease if it
    is one."""

    job: str
    """File of the `infra.stage_job.StageJob`."""
    modules: tuple[str, ...]
    """To be imported."""
    variables: dict[str, str]
    """The stage's environment."""


class Refused(Facts):
    """No process was started."""

    by_another: bool
    """Whether another server could, which loads what is there by now."""


class Ended(Facts):
    """It has ended."""

    code: int
    """As `subprocess.Popen.returncode` has it."""
    cpu_seconds: float
    """Of all its processes, and of the import for them."""


@dataclass
class _Imports:
    """What has been imported, and what that has done to this process."""

    variables: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    """The environment before."""
    loaded: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    """Modification time and size of the file of each module; None where it was written while it was read."""

    def add(self, modules: Iterable[str]) -> None:
        began = time.time_ns()
        with contextlib.suppress(BaseException):  # it is for the stage's process, which does the same, to say
            for module in modules:
                importlib.import_module(module)
        for path in _files() - self.loaded.keys():
            stamp = _stamp(path)
            self.loaded[path] = stamp if stamp and stamp[0] < began else None

    def changed(self) -> bool:
        """Whether a file is another one by now, so that a fresh interpreter would run other code."""
        return any(_stamp(path) != stamp for path, stamp in self.loaded.items())

    def apply(self, variables: dict[str, str]) -> None:
        """Take over a stage's environment, with what imports have changed in it."""
        now = dict(os.environ)
        ours = {name: value for name, value in now.items() if self.variables.get(name) != value}
        gone = self.variables.keys() - now.keys()
        os.environ.clear()
        os.environ.update({name: value for name, value in (variables | ours).items() if name not in gone})


def _files() -> set[str]:
    return {path for module in list(sys.modules.values()) if (path := getattr(module, "__file__", None))}


def _stamp(path: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        status = os.stat(path)  # noqa: PTH116  (thousands of them before each stage)
        return status.st_mtime_ns, status.st_size
    return None


def _can_fork() -> bool:
    """Whether a forked process can do all that this one could."""
    if any(path.startswith(GPUS) for path in _open_files()):
        return False
    if _threads() > 1:  # those of OpenBLAS, and of whatever else knows of forks, end at one and begin again when used
        if not (child := os.fork()):
            os._exit(0)
        os.waitpid(child, 0)
    return _threads() == 1


def _threads() -> int:
    return sum((task / "comm").read_text().strip() not in FORK_SAFE for task in TASKS.iterdir())


def _open_files() -> set[str]:
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(path.readlink()))
    return found


@dataclass(frozen=True)
class _Stage:
    """A stage whose supervisor runs."""

    supervisor: int
    held: int
    """Descriptor of the supervisor, readable once it has ended."""
    runner: socket.socket
    import_seconds: float

    def end(self) -> None:
        """Collect the supervisor and tell the runner."""
        _, status, usage = os.wait4(self.supervisor, 0)
        spent = usage.ru_utime + usage.ru_stime + self.import_seconds
        ended = Ended(code=os.waitstatus_to_exitcode(status), cpu_seconds=spent)
        with contextlib.suppress(OSError):  # nobody wants to know any more
            self.runner.send(ended.model_dump_json().encode())
        self.close()

    def close(self) -> None:
        os.close(self.held)
        self.runner.close()


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control, self._open = control, True
        self._imports = _Imports()
        self._stages: list[_Stage] = []
        self._counted = 0.0
        """Processor seconds of this process that stages have been told of."""

    def serve(self) -> str | None:
        """Serve until the runner hangs up or nothing is asked; in the process of a stage, at once: its job."""
        while self._open or self._stages:
            with selectors.PollSelector() as waiting:
                if self._open:
                    waiting.register(self._control, selectors.EVENT_READ)
                for stage in self._stages:
                    waiting.register(stage.held, selectors.EVENT_READ, stage)
                ready = waiting.select(None if self._stages else IDLE_SECONDS)
            if not ready:
                return None
            for key, _ in ready:
                if key.data:
                    key.data.end()
                    self._stages.remove(key.data)
                elif job := self._answer():
                    return job
        return None

    def _answer(self) -> str | None:
        """Take a request in: its job in the process of the stage, else None."""
        message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE, 4, socket.MSG_CMSG_CLOEXEC)
        if not message:
            self._open = False
            return None
        request = Request.model_validate_json(message)
        runner, (log, folder, *lease) = socket.socket(fileno=descriptors[0]), descriptors[1:]
        is_stage = False
        changed = self._imports.changed()
        _print_to(log)
        if not changed:
            self._imports.add(request.modules)
        if changed or not _can_fork():
            runner.send(Refused(by_another=changed).model_dump_json().encode())
            runner.close()
        else:
            is_stage = self._fork(request.variables, folder, runner)
        for descriptor in (log, folder, *lease):
            os.close(descriptor)
        if is_stage:
            return request.job
        with Path(os.devnull).open("wb") as null:
            _print_to(null.fileno())  # a log that is open cannot be deleted on every file system
        return None

    def _fork(self, variables: dict[str, str], folder: int, runner: socket.socket) -> bool:
        """Start a stage; whether this is its process."""
        gc.freeze()  # a collection in a child would copy what is shared
        server = os.getpid()
        if not (supervisor := os.fork()):
            self._control.close()
            for stage in self._stages:
                stage.close()
            self._imports.apply(variables)
            os.chdir(folder)
            _go_on_below_a_supervisor(server)
            runner.close()
            return True
        held = os.pidfd_open(supervisor)
        spent = time.process_time()
        self._stages.append(_Stage(supervisor, held, runner, spent - self._counted))
        self._counted = spent
        with contextlib.suppress(OSError):  # the runner is gone; so will be this process
            socket.send_fds(runner, [b"started"], [held])
        return False


def _go_on_below_a_supervisor(server: int) -> None:
    """Return in a child of this process, which becomes its supervisor and ends with it."""
    code = 1
    try:
        os.setsid()
        stopping, supervisor = stand_by(), os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the child is not to take it as a supervisor would
        if not (child := os.fork()):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if not child:
            os.setsid()
            die_with_parent(supervisor)
            return
        code = watch(child, server, stopping)
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def _print_to(descriptor: int) -> None:
    """Send what is printed from now on there."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())


def main(control: int, flow: int) -> None:
    """Serve the process `flow`, or work for it."""
    die_with_parent(flow)
    if job := _Server(socket.socket(fileno=control)).serve():
        sys.exit(worker.main(Path(job)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
