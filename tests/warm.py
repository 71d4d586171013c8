"""Workers of pytest-xdist that know what tests import: forks of one process, which has paid for it once.

torch, transformers, Prefect, MLflow and what they bring take some ten seconds of a processor and most of a gigabyte.
pytest-xdist starts a worker as a Python interpreter that reads its program from its standard input; here that
interpreter is a small process (`DOOR`), which passes its standard files on to the warm one and waits for the fork that
reads the program.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from execnet import XSpec

from infra.imports import importing

DOOR = (
    "import socket, sys; door = socket.socket(socket.AF_UNIX); door.connect(sys.argv[1]);"
    "socket.send_fds(door, [b'.'], [0, 1, 2]); door.recv(1)"
)
STANDARD_FILES = 3


class Warm:
    """A plugin: workers are forks of one process, and what they import and collect is not searched for garbage."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[XSpec]) -> None:
        command = self.start(config.args)
        for spec in specs:
            spec.python = shlex.join(command)

    def start(self, arguments: list[str]) -> list[str]:
        """Let a process import what the tests there want; the command that is a Python interpreter forked from it."""
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        address = str(Path(self._folder.name, "door"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            command = [sys.executable, "-m", "tests.warm", str(listener.fileno()), *arguments]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
        return [sys.executable, "-I", "-S", "-c", DOOR, address]

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Iterator[None]:
        with importing():
            return (yield)

    def pytest_unconfigure(self) -> None:
        if self._process and self._folder:
            self._process.communicate()
            self._folder.cleanup()


def imports(tests: Iterable[Path]) -> list[str]:
    """What the tests import when they are collected, but for other tests: each module once, in order."""
    found = (name for file in tests for name in _imports(file))
    return [name for name in dict.fromkeys(found) if name.split(".")[0] != "tests"]


def _imports(file: Path) -> Iterator[str]:
    for line in ast.parse(file.read_bytes()).body:
        if isinstance(line, ast.Import):
            yield from (alias.name for alias in line.names)
        elif isinstance(line, ast.ImportFrom) and line.module:
            yield line.module


def _files(arguments: Iterable[str]) -> list[Path]:
    """Of tests, and what they share."""
    places = [Path(argument.partition("::")[0]) for argument in arguments]
    return [file for place in places for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]


def _serve(listener: socket.socket) -> None:
    """A fork for each who comes to the door, until standard input ends."""
    children = []
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        visitor, _ = listener.accept()
        _, files, _, _ = socket.recv_fds(visitor, 1, STANDARD_FILES)
        if child := os.fork():
            children.append(child)
            visitor.close()  # the visitor leaves when the fork, which keeps this open, has ended
            for file in files:
                os.close(file)
        else:
            listener.close()
            _become(files)
            return
    for child in children:
        os.waitpid(child, 0)


def _become(files: list[int]) -> None:
    """The interpreter that xdist meant to start."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["-c"]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(ast.literal_eval(sys.stdin.readline()), vars(main))


def main(listener: int, *arguments: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the forks are interrupted
    with importing():
        for name in imports(_files(arguments)):
            with contextlib.suppress(Exception):  # the tests themselves tell
                importlib.import_module(name)
    with socket.socket(fileno=listener) as door:
        _serve(door)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
