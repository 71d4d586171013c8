"""Each layer imports only layers below, and libraries stay in the packages that own them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAYERS = ("infra", "pipeline", "model", "flows")
OWNERS = {
    "prefect": ("flows/",),
    "mlflow": (
        "infra/tracking.py",
        "flows/registry/",
        "flows/serving/chat.py",
        "flows/operations/mlflow_app.py",
        "model/release/pyfunc.py",
        "model/release/serving",
    ),
    "deepspeed": ("model/training/",),
    "torch": ("model/", "pipeline/tokens/reader.py"),
}


def modules() -> list[Path]:
    return sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield node.module or ""


def offences(relative: str, names: Iterable[str]) -> Iterator[str]:
    """What a file must not import."""
    layer = LAYERS.index(relative.split("/")[0])
    for name in names:
        root = name.split(".")[0]
        if root in LAYERS and LAYERS.index(root) > layer:
            yield f"{relative} imports {name}, which is above it"
        if root in OWNERS and not relative.startswith(OWNERS[root]):
            yield f"{relative} imports {name}; only {OWNERS[root]} may"


def test_imports_only_downwards() -> None:
    assert not [text for path in modules() for text in offences(path.relative_to(ROOT).as_posix(), imports(path))]


def test_the_rule_would_notice() -> None:
    """Every layer is seen, and so is every library that has an owner."""
    seen = {name.split(".")[0] for path in modules() for name in imports(path)}
    assert seen >= {"infra", "pipeline", "model", "flows", "prefect", "mlflow", "deepspeed", "torch"}
    assert len(list(offences("infra/store.py", ["flows.mill", "torch", "json", "infra.lease"]))) == 2


def test_files_stay_readable() -> None:
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in modules()}
    assert not {name: lines for name, text in texts.items() if (lines := len(text.splitlines())) > 450}
    silent = [name for name, text in texts.items() if not ast.get_docstring(ast.parse(text))]
    assert not [name for name in silent if not name.endswith("__init__.py")], "these do not say what they are"
