"""The packages of a layer stand in an order too, and no two modules import each other."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LAYERS = ("infra", "pipeline", "model", "flows")
SEPARATE = {"llmcompressor"}
"""What only runs in an environment of its own."""
ORDER = {
    "flows": (
        *(
            "__main__",
            "cli",
            "commands",
            "study",
            "serving",
            "operations",
            "mill",
            "browser",
            "registry",
            "report",
            "run",
        ),
        *("recipe", "__init__"),
    ),
    "model": (
        *("evaluation", "rl", "serving", "release", "training", "generation", "planning", "finetune_sections"),
        *("sections", "architecture", "facts", "__init__"),
    ),
    "pipeline": (
        *(
            "loops",
            "inventory",
            "index",
            "extract",
            "removal",
            "recall",
            "sample",
            "dedup",
            "reasoning",
            "sources",
            "clean",
            "html",
            "tokens",
            "text",
            "tasks",
        ),
        *("sections", "__init__"),
    ),
}
"""From the top down: each may import what stands after it."""


def _modules(*more: str) -> dict[str, Path]:
    files = (path for layer in (*LAYERS, *more) for path in (ROOT / layer).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def _imports(path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


@cache
def _graph() -> dict[str, list[str]]:
    """What each module imports of ours, benches included."""
    modules = _modules("bench")
    return {name: sorted(set(_imports(path, modules)) - {name}) for name, path in modules.items()}


def _package(name: str) -> tuple[str, str]:
    layer, _, rest = name.partition(".")
    return layer, rest.partition(".")[0] or "__init__"


@pytest.mark.parametrize("layer", ORDER)
def test_packages_import_only_what_stands_below(layer: str) -> None:
    order = ORDER[layer]
    assert {package for place, package in map(_package, _graph()) if place == layer} == set(order)
    upwards = [
        f"{name} imports {other}"
        for name, others in _graph().items()
        for other in others
        if _package(name)[0] == _package(other)[0] == layer
        and order.index(_package(other)[1]) < order.index(_package(name)[1])
    ]
    assert not upwards


def test_no_circles() -> None:
    assert not list(_circles(_graph()))


def test_a_circle_would_be_noticed() -> None:
    assert list(_circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]})) == [frozenset("abc")]


def _circles(graph: Mapping[str, Iterable[str]]) -> Iterator[frozenset[str]]:
    """Groups of modules of which each reaches every other."""
    reached = {name: _reached(graph, name) for name in graph}
    groups = {frozenset(other for other in reached[name] if name in reached[other]) for name in graph}
    yield from sorted((group for group in groups if len(group) > 1), key=sorted)


def _reached(graph: Mapping[str, Iterable[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph[waiting.pop()]:
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return seen


def test_what_is_imported_is_declared() -> None:
    """A package that comes along with another one may stay away tomorrow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(line for extra in extras for line in extra)]
    declared = {canonicalize_name(Requirement(line).name) for line in requirements}
    providers = packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)} imports {top}"
        for path in _modules().values()
        for top in _tops(path)
        if top not in sys.stdlib_module_names | set(LAYERS) | SEPARATE
        and not declared & {canonicalize_name(name) for name in providers.get(top, (top,))}
    }
    assert not undeclared


def _tops(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
