"""How the loops of this package are compiled: once on a machine, as long as no file of the package changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["compiled", "inlined", "making_arrays"]

_FILES = tuple(
    (path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(Path(__file__).parent.glob("*.py"))
)


def making_arrays(loop: Callable[..., Any]) -> Any:
    """A loop compiled. Numba keeps the machine code until its file changes; here, until any file of the package does,
    for their constants and inner loops are part of it."""
    return _stamped(njit(cache=True)(loop))


def compiled(loop: Callable[..., Any]) -> Any:
    """The same for a loop that makes no arrays: nothing counts the references to those that it has, which would take
    most of its time."""
    return _stamped(njit(cache=True, _nrt=False)(loop))  # type: ignore[call-overload]  # an option of no document


def inlined(loop: Callable[..., Any]) -> Any:
    """The same as part of the loop that calls it."""
    return njit(forceinline=True, _nrt=False)(loop)  # type: ignore[call-overload]


def _stamped(loop: Any) -> Any:
    loop._cache._cache_file._source_stamp = _FILES
    return loop
