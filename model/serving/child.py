"""What the engines' processes share: the specification on standard input, the address on standard output."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable

from infra.errors import first_line
from model.serving.spec import EngineSpec

__all__ = ["run", "tell"]


_answers = 1


def tell(**values: str) -> None:
    """Answer the parent: ``address=`` or ``error=``."""
    os.write(_answers, json.dumps(values).encode() + b"\n")


def run(serve: Callable[[EngineSpec], None]) -> None:
    """Call `serve` with the specification; what a library prints goes to the log."""
    global _answers
    _answers = os.dup(1)
    os.dup2(2, 1)
    spec = EngineSpec(**json.loads(sys.stdin.readline()))
    signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(0))  # a drained engine has nothing to save
    try:
        serve(spec)
    except Exception as error:
        tell(error=f"{type(error).__name__}: {first_line(error)}")
        sys.exit(1)
