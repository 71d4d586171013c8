"""Runs programs that a model wrote, and judges that evaluate what it wrote, where they can do no harm.

`run_programs` is the reward of program-of-thought answers (DeepSeekMath, arXiv 2402.03300, section 3.1); `judge` calls
math-verify and the scorers of reasoning-gym, some of which evaluate the answer as an expression. Both send their work
to one helper process (`pipeline.reasoning.sandbox_worker`), which forks a child per request: no network, no files, no
other processes, bounded time, memory and output. The helper has none of this process's environment and ends with it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.errors import DeepmillError, UserError

__all__ = ["LIMITS", "Limits", "Outcome", "judge", "run_programs"]

_WORKER = Path(__file__).with_name("sandbox_worker.py")


@dataclass(frozen=True)
class Limits:
    """What a child may use."""

    seconds: float = 1.0
    """Processor time."""
    memory_bytes: int = 128 << 20
    """Beyond what the interpreter has."""
    output_bytes: int = 4096


LIMITS = Limits()
JUDGE_LIMITS = Limits(seconds=2.0)


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    status: str
    """ok, error (an exception, said in the output), time, memory, output (too much of it) or killed."""
    output: str

    @property
    def is_ok(self) -> bool:
        """Whether it ran to its end."""
        return self.status == "ok"


class _Worker:
    """The helper process, started when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def ask(self, requests: Sequence[Mapping[str, Any]], limits: Limits) -> list[Outcome]:
        """Answers to `requests`, in their order."""
        if not requests:
            return []
        message = {
            "requests": list(requests),
            "limits": asdict(limits),
            "width": max(1, len(os.sched_getaffinity(0))),
        }
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            for attempt in (1, 2):
                try:
                    return [self._checked(*pair) for pair in self._exchange(line)]
                except (BrokenPipeError, EOFError):
                    self.close()
                    if attempt == 2:
                        raise DeepmillError("the sandbox's helper process ended twice over the same work") from None
        raise AssertionError

    def _exchange(self, line: bytes) -> list[list[str]]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line)
        process.stdin.flush()
        reply = process.stdout.readline()
        if not reply.endswith(b"\n"):
            raise EOFError
        found: list[list[str]] = json.loads(reply)
        return found

    @staticmethod
    def _checked(status: str, output: str) -> Outcome:
        if status == "refused":
            raise UserError(f"{output}; programs are run and judged only under seccomp (Linux, x86-64 or ARM)")
        return Outcome(status, output)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid():  # a forked process must not share the pipes
            environment = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HOME": "/"}
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-B", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd="/",
            )
            self._owner = os.getpid()
        return self._process

    def close(self) -> None:
        """End the helper; it is started anew when needed."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.kill()
            process.wait()


_worker = _Worker()
atexit.register(_worker.close)


def run_programs(programs: Sequence[str], limits: Limits = LIMITS) -> list[Outcome]:
    """What each of the Python `programs` prints.

    Raises:
        UserError: this machine cannot lock programs in; none has run then.
    """
    return _worker.ask([{"kind": "program", "code": program} for program in programs], limits)


def judge(requests: Sequence[Mapping[str, Any]], limits: Limits = JUDGE_LIMITS) -> list[float]:
    """Marks of the requests: ``{"kind": "math", "answer", "expected"}`` or ``{"kind": "gym", "dataset", "answer",
    "entry"}``. A judge that fails, or takes too long, gives 0.
    """
    marks = []
    for outcome in _worker.ask(requests, limits):
        try:
            marks.append(float(outcome.output) if outcome.is_ok else 0.0)
        except ValueError:
            marks.append(0.0)
    return marks
