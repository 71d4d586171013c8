"""Takes from a process everything but computing, for good: system calls, memory, time, files, other processes.

A seccomp filter (seccomp(2)) allows the system calls that pure computation needs and fails all others with EPERM: no
file can be opened, no process or thread started, no signal sent, no socket made, no limit lifted. Nothing that is left
can block: a wait on a futex, which nobody would end in a process of one thread, kills the process when it has no end,
and has timed out at once when it has one. So a process that is alive is computing, and its processor time bounds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import resource
import signal
import struct
from pathlib import Path
from typing import Any

__all__ = ["die_with_parent", "lock", "seccomp_filter"]

# System calls of pure computation, by number: read, write, close, lseek, mmap, mprotect, munmap, brk, rt_sigprocmask,
# rt_sigreturn, mremap, madvise, sched_yield, writev, getpid, gettid, getrusage, times, time, gettimeofday,
# clock_gettime, clock_getres, getrandom, sigaltstack, exit, exit_group, restart_syscall, fstat.
_COMPUTING = {
    "x86_64": (
        0, 1, 3, 8, 9, 10, 11, 12, 14, 15, 25, 28, 24, 20, 39, 186, 98, 100, 201, 96, 228, 229, 318, 131, 60, 231, 219,
        5,
    ),
    "aarch64": (
        63, 64, 57, 62, 222, 226, 215, 214, 135, 139, 216, 233, 124, 66, 172, 178, 165, 153, 169, 113, 114, 278, 132,
        93, 94, 128, 80,
    ),
}  # fmt: skip
_FUTEX = {"x86_64": 202, "aarch64": 98}
_FUTEX_COMMAND, _FUTEX_WAKE, _FUTEX_WAKE_BITSET = 0x7F, 1, 10
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _EPERM, _ETIMEDOUT, _KILL = 0x7FFF0000, 0x00050001, 0x0005006E, 0x80000000
_NUMBER, _ARCHITECTURE, _OPERATION, _TIMEOUT = 0, 4, 24, 40  # offsets in seccomp_data; the last two are arguments
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def seccomp_filter(machine: str) -> bytes:
    """A classic BPF program that allows the listed system calls and fails all others with EPERM."""

    def statement(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    load, mask, jump_equal, give = 0x20, 0x54, 0x15, 0x06
    program = [
        statement(load, _ARCHITECTURE),
        statement(jump_equal, _ARCHITECTURES[machine], 1, 0),
        statement(give, _KILL),
        statement(load, _NUMBER),
    ]
    for number in _COMPUTING[machine]:
        program += [statement(jump_equal, number, 0, 1), statement(give, _ALLOW)]
    program += [
        statement(jump_equal, _FUTEX[machine], 1, 0),
        statement(give, _EPERM),
        statement(load, _OPERATION),
        statement(mask, _FUTEX_COMMAND),
        statement(jump_equal, _FUTEX_WAKE, 1, 0),
        statement(jump_equal, _FUTEX_WAKE_BITSET, 0, 1),
        statement(give, _ALLOW),
        statement(load, _TIMEOUT),
        statement(jump_equal, 0, 1, 0),
        statement(give, _ETIMEDOUT),
        statement(load, _TIMEOUT + 4),  # the pointer's upper half
        statement(jump_equal, 0, 1, 0),
        statement(give, _ETIMEDOUT),
        statement(give, _KILL),
    ]
    return b"".join(program)


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: Any) -> None:
    padded = [*arguments, *[0] * (4 - len(arguments))]
    if _libc.prctl(option, *(ctypes.c_ulong(value) if isinstance(value, int) else value for value in padded)):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process with the process `parent` that forked it."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def lock(seconds: float, memory_bytes: int) -> None:
    """Give up everything but computing, in this process and for good.

    Args:
        seconds: processor time; whoever watches the process is exact about it, this is the second line.
        memory_bytes: beyond what the process has.

    Raises:
        OSError: the kernel will not.
    """
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with contextlib.suppress(OSError):  # the kernel short of memory is to end this process, not the one that forked it
        Path("/proc/self/oom_score_adj").write_text("1000")
    for kind, value in (
        (resource.RLIMIT_AS, held + memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, math.ceil(seconds) + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (value, value))
    if platform.machine() not in _ARCHITECTURES:
        raise OSError(f"no filter for {platform.machine()}")
    code = seccomp_filter(platform.machine())
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, 2, ctypes.byref(program))
