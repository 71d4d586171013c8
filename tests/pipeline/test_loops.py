"""Set-up has every loop compiled: one that it forgets, each of the first processes of a run would compile."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pipeline.loops import prepare

HOUSE = Path(__file__).parents[2]


def _kept() -> dict[str, Any]:
    """The compiled loops whose code Numba keeps, by their names."""
    found: dict[str, Any] = {}
    for path in (HOUSE / "pipeline").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "@njit(cache" in text or "html.compiling import" in text:
            module = importlib.import_module(".".join(path.relative_to(HOUSE).with_suffix("").parts))
            loops = (loop for loop in vars(module).values() if hasattr(loop, "py_func") and loop._cache.cache_path)
            found |= {f"{loop.py_func.__module__}.{loop.py_func.__name__}": loop for loop in loops}
    return found


def test_every_loop_is_made_ready() -> None:
    prepare()
    loops = _kept()
    assert len(loops) > 15
    within = {name for loop in loops.values() for name in loop.py_func.__code__.co_names}  # part of what calls them
    assert [name for name, loop in loops.items() if loop.py_func.__name__ not in within and not loop.signatures] == []
