"""Which code a stage is: a digest of the source that its entry point reaches, and the versions of what it imports.

Only what the interpreter would run counts: the syntax tree without docstrings, comments and layout. Recipe sections
are left out, because their values are in the identity already.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import platform
import sys
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from infra.hashing import digest

__all__ = ["environment", "fingerprint", "packages", "reached_modules"]

FLOORS = ("infra", "pipeline", "model")
NOT_BYTES = frozenset(
    {"infra.events", "infra.errors", "infra.execution", "infra.section", "infra.launch", "infra.storage"}
)
"""Modules that cannot change what a stage writes: reporting, errors, and how processes are started."""
PAUSES = (0.01, 0.05, 0.2, 0.5)
"""Seconds before parsing again what another thread disturbed."""
RECORDED = (
    "torch",
    "deepspeed",
    "transformers",
    "tokenizers",
    "datatrove",
    "pyarrow",
    "numpy",
    "safetensors",
    "gguf",
    "fastwarc",
    "resiliparse",
    "backports.zstd",
    "mwparserfromhell",
    "ftfy",
    "reasoning-gym",
    "prefect",
    "mlflow",
)


@cache
def fingerprint(entrypoint: str) -> str:
    """Digest of all project source that ``module:function`` reaches through imports, at the top or inside functions."""
    return digest([[name, _read(name)[1]] for name in reached_modules(entrypoint.split(":")[0])])[:16]


def reached_modules(module: str) -> list[str]:
    """Names of the project's modules that `module` imports, itself included, sorted."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen or name in NOT_BYTES or name.endswith(".sections"):
            continue
        if _source(name) is None:
            continue
        seen.add(name)
        waiting += _read(name)[0]
    return sorted(seen)


@cache
def _source(name: str) -> Path | None:
    """The file of a module of the project; None for what is none. `find_spec` of a name with dots would import what is
    before the last dot, torch with it."""
    top, *below = name.split(".")
    spec = importlib.util.find_spec(top) if top in FLOORS else None
    for folder in spec.submodule_search_locations or () if spec else ():
        place = Path(folder, *below)
        for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if path.is_file() and (below or path.name == "__init__.py"):
                return path
    return None


def _parse(source: Path) -> ast.Module:
    """The syntax tree. CPython 3.11 counts the depth of all threads' trees together (its issue 106905): where another
    thread makes one in the middle of this, as happened in a flow of Prefect, it refuses."""
    text = source.read_text(encoding="utf-8")
    for pause in PAUSES:
        with contextlib.suppress(SystemError):
            return ast.parse(text)
        time.sleep(pause)
    return ast.parse(text)


def _imports(tree: ast.AST, importer: str) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # launch("model.training.pretrain:run_rank", ...) names its target in a string
            name, colon, _ = node.value.partition(":")
            if colon and name != importer and name.replace(".", "_").isidentifier() and name.split(".")[0] in FLOORS:
                yield name


@cache
def _read(name: str) -> tuple[tuple[str, ...], str]:
    """What a module imports, and its code without docstrings."""
    source = _source(name)
    assert source is not None
    tree = _parse(source)
    imports = tuple(_imports(tree, name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = [
                statement
                for statement in node.body
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            ]
            node.body = body or [ast.Pass()]
    return imports, ast.dump(tree, annotate_fields=False)


def packages() -> dict[str, str]:
    """Installed versions of the packages whose code decides what a stage writes."""
    found = {}
    for name in RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """The interpreter and the machine."""
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
