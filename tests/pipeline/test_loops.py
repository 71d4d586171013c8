"""Set-up has every loop compiled: one that it forgets, each of the first processes of a run would compile."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pipeline.loops import prepare

HOUSE = Path(__file__).parents[2]


def _loops() -> list[Any]:
    """All compiled loops."""
    found: list[Any] = []
    for path in (HOUSE / "pipeline").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "import njit" in text or "html.compiling import" in text:
            module = importlib.import_module(".".join(path.relative_to(HOUSE).with_suffix("").parts))
            found += [loop for loop in vars(module).values() if hasattr(loop, "py_func")]
    return found


def test_every_loop_is_made_ready() -> None:
    prepare()
    loops = _loops()
    within = {name for loop in loops for name in loop.py_func.__code__.co_names}  # compiled as part of what calls them
    entered = [loop for loop in loops if loop._cache.cache_path and loop.py_func.__name__ not in within]
    assert len(entered) > 15
    assert [loop.py_func for loop in entered if not loop.signatures] == []
