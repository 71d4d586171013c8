"""What a locked child does for its one job: runs a program, or judges an answer.

A program owns the process it runs in: everything that process says afterwards, its exit status included, is the
program's own word and judges nothing but that program. A judge runs no code of the answer's: it reads it as data
(`pipeline.reasoning.expressions`), and what it says on its channel is its verdict.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import io
import pkgutil
import random
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.reasoning.expressions import disarm
from pipeline.reasoning.held_modules import HeldModules

__all__ = ["ERROR", "MEMORY", "WORK", "Work"]

ERROR, MEMORY = 1, 109
"""Exit statuses, besides 0."""
PRELOADED = (
    "bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools",
    "json", "math", "operator", "random", "re", "statistics", "string", "typing",
)  # fmt: skip
"""What a program may import, with sympy where it names it: nothing can be loaded once the child is locked."""

_MATHEMATICS = ("sympy", "mpmath")
"""Packages that import parts of themselves late."""

Job = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """A kind of job. A process that forks children for one kind does so for no other."""

    channel: int
    """File descriptor of what the child tells: standard output, or one that `print` does not write to."""
    prepare: Callable[[], None]
    """Loads, before the first fork, what the job needs."""
    run: Callable[[Job, int], int]
    """Does the job in the locked child, writes to the channel, returns the exit status."""
    prepare_task: Callable[[str], None] = lambda _: None
    """Loads what the task of that name needs."""


# --- programs


def _prepare_programs() -> None:
    for name in PRELOADED:
        __import__(name)
    import datetime

    datetime.datetime.strptime("2000", "%Y")  # it imports its parser on first use
    with contextlib.suppress(Exception):
        compile("(", "<program>", "exec")
    random.seed(0)


def _prepare_sympy() -> None:
    """Use the parts of sympy that mathematics problems use: it imports them when they are first called."""
    _prepare_programs()
    HeldModules(_MATHEMATICS).install()
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


def _run_program(job: Job, channel: int) -> int:
    stream = io.TextIOWrapper(io.FileIO(channel, "w", closefd=False), "utf-8", errors="replace", write_through=True)
    sys.stdout = stream
    random.seed(0)
    sys.setrecursionlimit(2000)
    try:
        exec(compile(job["code"], "<program>", "exec"), {"__name__": "__main__"})
        sys.stdout.flush()
    except SystemExit as end:
        return ERROR if end.code else 0
    except MemoryError:
        return MEMORY
    except BaseException as error:
        with contextlib.suppress(BaseException):
            print(f"{type(error).__name__}: {error}"[:200], file=stream)
        return ERROR
    return 0


# --- judges


def _judged(mark: Callable[[Job], float]) -> Callable[[Job, int], int]:
    """The job of a judge: its mark on the channel, as eight bytes."""

    def run(job: Job, channel: int) -> int:
        gc.disable()  # the process is short
        try:
            verdict = struct.pack("<d", float(mark(job)))
        except MemoryError:
            return MEMORY
        except BaseException:
            return ERROR
        with io.FileIO(channel, "w", closefd=False) as file:
            file.write(verdict)
        return 0

    return run


def _prepare_typed() -> None:
    from pipeline.reasoning import answers

    modules = [module.name for module in pkgutil.iter_modules(answers.__path__, f"{answers.__name__}.")]
    for module in (*modules, "mpmath", "_strptime"):  # some are imported when they are first called for
        importlib.import_module(module)
    HeldModules(("mpmath",)).install()
    for answer in ("1/2", r"\sqrt{8} x", "5 km", "2020-01-02", "(1, 2)", "a, b", "x = 3", "B", "Paris"):
        _typed({"answer": f"The answer is {answer}.", "expected": answer, "answer_type": None, "choices": []})
    identity = {"answer": r"2\sin x\cos x", "expected": r"\sin 2x"}  # it loads mpmath
    _typed({**identity, "answer_type": None, "choices": [], "question": "How many km?"})


def _typed(job: Job) -> float:
    """1 when an answer is right by the type of the expected one."""
    from pipeline.reasoning.answers.judge import judge
    from pipeline.reasoning.answers.types import declared_type

    return float(judge(job["expected"], job["answer"], declared_type(job), job["choices"], job.get("question", "")))


def _prepare_gym() -> None:
    import reasoning_gym  # noqa: F401  its scorers are to be loaded before they are disarmed
    import sympy

    HeldModules(_MATHEMATICS).install()
    disarm()
    x = sympy.Symbol("x")
    sympy.simplify(sympy.diff(sympy.parse_expr("exp(x)*sin(x) + x**2/2 + log(x)"), x) - 1)


@functools.cache
def _scorer(name: str) -> Any:
    """The scorer of a data set of reasoning-gym."""
    import reasoning_gym

    return reasoning_gym.get_score_answer_fn(name)


def _prepare_scorer(name: str) -> None:
    with contextlib.suppress(Exception):
        _scorer(name)


def _gym(job: Job) -> float:
    return float(_scorer(job["dataset"])(job["answer"], job["entry"]))


WORK = {
    "program": Work(1, _prepare_programs, _run_program),
    "sympy": Work(1, _prepare_sympy, _run_program),
    "typed": Work(3, _prepare_typed, _judged(_typed)),
    "gym": Work(3, _prepare_gym, _judged(_gym), _prepare_scorer),
}
"""The kinds of jobs; `sympy` is a program that names it."""
