"""Importing what takes seconds, without looking for garbage meanwhile."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["importing"]


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """What the block makes stays to the end of the process: nobody looks for garbage in it, then or later.

    Prefect, MLflow or torch leave a million objects behind, and Python's collector goes through all of them a dozen
    times while they come: a sixth of the time that importing takes.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
