"""How fast programs are run and answers judged: ``python -m bench.sandbox [--quick] [--json FILE]``.

Each program and each judgement has a process of its own. The processor time of one, its share of the servers' included,
stands beside: a busy machine changes it less.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from bench.table import Row, bench_parser, row, show
from pipeline.reasoning.sandbox import judge, run_programs

__all__ = ["main"]

_GYM = {"question": "?", "answer": "1+2+3", "metadata": {"numbers": [1, 2, 3], "target": 6}}


def _typed(number: int) -> Mapping[str, Any]:
    asked = {"answer": f"\\frac{{{number + 1}}}{{7}}", "expected": f"{2 * number + 2}/14"}
    return {**asked, "kind": "typed", "answer_type": None, "choices": []}


def _gym(number: int) -> Mapping[str, Any]:
    return {"kind": "gym", "dataset": "countdown", "answer": f"1+2+3+{number}-{number}", "entry": _GYM}


WORK: dict[str, Callable[[int], Any]] = {
    "programs": lambda count: run_programs([f"print({number} + 1)" for number in range(count)]),
    "programs with sympy": lambda count: run_programs(
        [f"import sympy\nx = sympy.Symbol('x')\nprint(sympy.solve(x - {number}, x))" for number in range(count)]
    ),
    "verdicts by type": lambda count: judge([_typed(number) for number in range(count)]),
    "verdicts of reasoning-gym": lambda count: judge([_gym(number) for number in range(count)]),
}


def main() -> None:
    """Measure, print a table, and with ``--json`` write its rows."""
    chosen = bench_parser(__doc__, "a few of each").parse_args()
    rows: list[Row] = []
    for name, work in WORK.items():
        rows += _measured(name, work, 20 if chosen.quick else 400)
    show(rows, chosen.json)


def _measured(name: str, work: Callable[[int], Any], count: int) -> list[Row]:
    work(4)  # starts the server
    spent, started = _spent(), time.perf_counter()
    work(count)
    seconds = time.perf_counter() - started
    return [
        row(f"{name} a second", "1/s", count / seconds, {}, None),
        row(f"{name}: processor time of one", "ms", 1000 * (_spent() - spent) / count, {}, None),
    ]


def _spent() -> float:
    """Processor time of this process, of its children and of theirs that have ended."""
    times = [child.cpu_times() for child in psutil.Process().children()]
    own = sum(os.times()[:2])
    return own + sum(each.user + each.system + each.children_user + each.children_system for each in times)


if __name__ == "__main__":
    main()
