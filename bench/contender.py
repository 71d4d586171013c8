"""Contenders that take turns, each in a process of its own, which does nothing between its turns."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict

from infra.threads import patience

__all__ = ["Cost", "beside", "contend"]


class Cost(TypedDict):
    """What a turn took: seconds of the clock and of the processor, and the most memory so far in GB."""

    wall: float
    cpu: float
    memory: float


def contend(make: Callable[[], Callable[[int], None]]) -> None:
    """A step, on two threads, for each number that a line of the input asks for, answered with what it took."""
    import torch

    torch.set_num_threads(2)
    step = make()
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        step(int(line))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        cost = Cost(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu, memory=memory)
        print("cost", json.dumps(cost), flush=True)


def beside(
    bench: str, name: str, folder: Path, close: contextlib.ExitStack, more: Mapping[str, str] | None = None
) -> Callable[[int], Cost]:
    """The contender of a name in a process of its own: `python -m BENCH --contender NAME FOLDER` calls `contend`.

    `more` is added to its environment; without it, ours has the one that stages have, and a peer that of its library.
    """
    if more is None:
        more = patience(os.environ) if name == "ours" else {}
    command = [sys.executable, "-m", bench, "--contender", name, str(folder)]
    process = close.enter_context(
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | more,
        )
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asked, answers = process.stdin, process.stdout
    close.callback(asked.close)

    def step(number: int) -> Cost:
        print(number, file=asked, flush=True)
        for answer in answers:  # libraries may say something of their own first
            if answer.startswith("cost "):
                cost: Cost = json.loads(answer.removeprefix("cost "))
                return cost
        raise SystemExit(f"{name} ended without an answer")

    return step
