"""The far side of `pipeline.reasoning.sandbox`: a process that forks a locked-down child for every program and every
judgement.

Run as a script with an empty environment, so that nothing secret is in its memory; imports nothing of this project. It
reads lines of JSON from standard input, ``{"limits": {...}, "requests": [...]}``, and answers each with one line, a
list of ``[status, output]``.

A child has no file but its output pipe, no other process to signal, and a seccomp filter (seccomp(2), a list of the
system calls that pure computation needs; all others fail with EPERM), on top of limits of processor time, memory,
file size and output. It cannot lift any of that. Time is processor time, so that a busy machine changes no verdict.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import io
import json
import os
import platform
import resource
import select
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

PRELOADED = (
    "bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools",
    "json", "math", "operator", "random", "re", "statistics", "string", "typing",
)  # fmt: skip
"""What a program may import: nothing can be loaded once the child is locked."""

# System calls of pure computation, by number: read, write, close, lseek, mmap, mprotect, munmap, brk, rt_sigprocmask,
# rt_sigreturn, mremap, madvise, sched_yield, writev, futex, getpid, gettid, getrusage, times, time, gettimeofday,
# clock_gettime, clock_getres, getrandom, sigaltstack, exit, exit_group, restart_syscall, fstat.
_COMPUTING = {
    "x86_64": (
        0, 1, 3, 8, 9, 10, 11, 12, 14, 15, 25, 28, 24, 20, 202, 39, 186, 98, 100, 201, 96, 228, 229, 318, 131, 60, 231,
        219, 5,
    ),
    "aarch64": (
        63, 64, 57, 62, 222, 226, 215, 214, 135, 139, 216, 233, 124, 66, 98, 172, 178, 165, 153, 169, 113, 114, 278,
        132, 93, 94, 128, 80,
    ),
}  # fmt: skip
# For judges, which are trusted code that may still import: stat, access, readlink, getdents64, getcwd, ioctl, fcntl,
# pread, statx, uname, sysinfo, sched_getaffinity.
_READING = {
    "x86_64": (262, 4, 6, 21, 89, 267, 217, 79, 16, 72, 17, 332, 63, 99, 204),
    "aarch64": (79, 78, 48, 61, 17, 29, 25, 67, 291, 160, 179, 123),
}
_OPENAT = {"x86_64": 257, "aarch64": 56}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050001, 0x80000000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_STATUS = {0: "ok", 1: "error", 2: "memory"}
_WALL = 20.0
"""Seconds after which a child is ended whatever its processor time: nothing in it can wait that long honestly."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def seccomp_filter(machine: str, *, may_read: bool) -> bytes:
    """A classic BPF program that allows the listed system calls and fails all others with EPERM."""

    def statement(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    load, jump_equal, jump_set, give = 0x20, 0x15, 0x45, 0x06
    program = [
        statement(load, 4),  # seccomp_data.arch
        statement(jump_equal, _ARCHITECTURES[machine], 1, 0),
        statement(give, _KILL),
        statement(load, 0),  # seccomp_data.nr
    ]
    for number in (*_COMPUTING[machine], *(_READING[machine] if may_read else ())):
        program += [statement(jump_equal, number, 0, 1), statement(give, _ALLOW)]
    if may_read:  # openat, unless its flags (the low half of the third argument) mean to write
        program += [
            statement(jump_equal, _OPENAT[machine], 0, 3),
            statement(load, 32),
            statement(jump_set, _WRITING, 1, 0),
            statement(give, _ALLOW),
        ]
    program.append(statement(give, _DENY))
    return b"".join(program)


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: Any) -> None:
    padded = [*arguments, *[0] * (4 - len(arguments))]
    if _libc.prctl(option, *(ctypes.c_ulong(value) if isinstance(value, int) else value for value in padded)):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def lock(limits: dict[str, float], *, may_read: bool) -> None:
    """Give up everything but computing, in this process and for good. OSError where the kernel will not."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    memory = held + int(limits["memory_bytes"])
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(limits["seconds"]) + 2),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    signal.setitimer(signal.ITIMER_PROF, limits["seconds"])  # it ends the process, and cannot be caught
    code = seccomp_filter(platform.machine(), may_read=may_read)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program))


# --- what a child does


def _child(request: dict[str, Any], limits: dict[str, float], output: int) -> int:
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if output != 1:
        os.dup2(output, 1)
    os.closerange(3, 4096)
    sys.stdin, sys.stderr = io.StringIO(), io.StringIO()
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", errors="replace", write_through=True)
    if request["kind"] == "program":
        return _run_program(request["code"], limits)
    return _judge(request, limits)


def _run_program(code: str, limits: dict[str, float]) -> int:
    import random

    os.close(0)
    os.close(2)
    random.seed(0)
    sys.setrecursionlimit(2000)
    lock(limits, may_read=False)
    try:
        exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return 1 if end.code else 0
    except MemoryError:
        return 2
    except BaseException as error:
        with contextlib.suppress(BaseException):
            print(f"{type(error).__name__}: {error}"[:200])
        return 1
    return 0


def _judge(request: dict[str, Any], limits: dict[str, float]) -> int:
    lock(limits, may_read=True)
    try:
        if request["kind"] == "math":
            mark = _math(request["answer"], request["expected"])
        else:
            mark = float(_gym(request["dataset"])(request["answer"], request["entry"]))
    except MemoryError:
        return 2
    except BaseException as error:
        with contextlib.suppress(BaseException):
            print(f"{type(error).__name__}: {error}"[:200])
        return 1
    os.write(1, json.dumps(mark).encode())
    return 0


def _math(answer: str, expected: str) -> float:
    """1 when math-verify holds the two for the same value."""
    from math_verify import parse, verify

    gold, given = (parse(_in_math_mode(text), parsing_timeout=0) for text in (expected, answer))
    return float(bool(gold) and bool(given) and verify(gold, given, timeout_seconds=0))


def _in_math_mode(text: str) -> str:
    return text if "$" in text or "\\boxed" in text else f"${text}$"


_gyms: dict[str, Any] = {}


def _gym(name: str) -> Any:
    """The scorer of a reasoning-gym data set."""
    if name not in _gyms:
        import reasoning_gym

        _gyms[name] = reasoning_gym.get_score_answer_fn(name)
    return _gyms[name]


# --- the process that forks


class _Job:
    def __init__(self, place: int, request: dict[str, Any], limits: dict[str, float]) -> None:
        self.place, self.kind = place, request["kind"]
        self.most = int(limits["output_bytes"])
        self.output = b""
        self.is_full = False
        self.deadline = time.monotonic() + max(_WALL, 10 * limits["seconds"])
        self.fd, far = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                status = _child(request, limits, far)
                sys.stdout.flush()
            except OSError as error:  # could not be locked: the program has not run
                os.write(1, f"no sandbox: {error}".encode())
                status = 3
            finally:
                os._exit(status)
        os.close(far)

    def read(self) -> bool:
        """Take what there is; False at the end."""
        part = os.read(self.fd, 65536)
        self.output += part
        if len(self.output) > self.most:
            self.is_full = True
            self.kill()
        return bool(part) and not self.is_full

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def result(self) -> tuple[str, str]:
        os.close(self.fd)
        _, wait_status = os.waitpid(self.pid, 0)
        text = self.output[: self.most].decode("utf-8", errors="replace")
        if self.is_full:
            return "output", ""
        if os.WIFSIGNALED(wait_status):
            number = os.WTERMSIG(wait_status)
            timed = number in (signal.SIGPROF, signal.SIGXCPU) or time.monotonic() > self.deadline
            return ("time" if timed else "killed"), ""
        status = os.WEXITSTATUS(wait_status)
        return _STATUS.get(status, "refused"), text


def _prepare(request: dict[str, Any]) -> None:
    """Load what the child needs, here, once, where loading is still possible."""
    if request["kind"] == "gym":
        with contextlib.suppress(Exception):
            _gym(request["dataset"])
    elif request["kind"] == "math":
        if "math_verify" not in sys.modules:
            _math("1/2", "0.5")
    elif "sympy" in request["code"]:
        _warm_up_sympy()


@functools.cache
def _warm_up_sympy() -> None:
    """Use the parts of sympy that mathematics problems use: it imports them when they are first called."""
    import sympy

    x, n = sympy.symbols("x n")
    sympy.solve(x**2 - 4, x)
    sympy.solve([x + n - 3, x - n - 1], [x, n])
    sympy.solveset(x**2 - 2, x, sympy.S.Reals)
    sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2)
    sympy.integrate(sympy.exp(x) * x, (x, 0, 1))
    sympy.summation(n**2, (n, 1, x))
    sympy.limit(sympy.sin(x) / x, x, 0)
    sympy.factor(x**2 - 1).expand().diff(x)
    sympy.Matrix([[1, 2], [3, 4]]).det()
    sympy.factorint(60), sympy.sqrt(8).evalf(), sympy.Rational(1, 3), str(sympy.Eq(x, 1))


def run_batch(requests: list[dict[str, Any]], limits: dict[str, float], width: int) -> list[tuple[str, str]]:
    """Run the requests, `width` at a time."""
    results: list[tuple[str, str]] = [("", "")] * len(requests)
    waiting = collections.deque(enumerate(requests))
    running: dict[int, _Job] = {}
    while waiting or running:
        while waiting and len(running) < width:
            place, request = waiting.popleft()
            _prepare(request)
            job = _Job(place, request, limits)
            running[job.fd] = job
        ready, _, _ = select.select(list(running), [], [], 0.5)
        now = time.monotonic()
        for job in list(running.values()):
            ended = job.fd in ready and not job.read()
            if not ended and now > job.deadline:
                job.kill()
                ended = True
            if ended:
                del running[job.fd]
                results[job.place] = job.result()
    return results


def main() -> None:
    """Serve until standard input ends."""
    for name in PRELOADED:
        __import__(name)
    import datetime

    datetime.datetime.strptime("2000", "%Y")  # it imports its parser on first use
    for line in sys.stdin.buffer:
        message = json.loads(line)
        found = run_batch(message["requests"], message["limits"], message["width"])
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
