"""The house stands: each floor imports only floors below, and libraries stay in the rooms that own them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
FLOORS = ("infra", "pipeline", "model", "flows")
OWNERS = {
    "prefect": ("flows/",),
    "mlflow": (
        "infra/tracking.py",
        "flows/registry/",
        "flows/serving/chat.py",
        "model/release/pyfunc.py",
        "model/release/serving",
    ),
    "deepspeed": ("model/training/",),
    "torch": ("model/", "pipeline/tokens/reader.py"),
}


def modules() -> list[Path]:
    return sorted(path for floor in FLOORS for path in (HOUSE / floor).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(HOUSE).as_posix())
def test_imports_only_downwards(path: Path) -> None:
    relative = path.relative_to(HOUSE).as_posix()
    floor = FLOORS.index(relative.split("/")[0])
    for name in imports(path):
        root = name.split(".")[0]
        if root in FLOORS:
            assert FLOORS.index(root) <= floor, f"{relative} imports {name}, which is above it"
        if root in OWNERS:
            assert relative.startswith(OWNERS[root]), f"{relative} imports {name}; only {OWNERS[root]} may"


def test_the_rule_would_notice() -> None:
    """Every floor is seen, and so is every library that has an owner."""
    seen = {name.split(".")[0] for path in modules() for name in imports(path)}
    assert seen >= {"infra", "pipeline", "model", "flows", "prefect", "mlflow", "deepspeed", "torch"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(HOUSE).as_posix())
def test_files_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 450
    if path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), f"{path} does not say what it is"
