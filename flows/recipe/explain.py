"""What is said about a key of the recipe: type, default and help, the presets that set it, the code that reads it."""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

from flows.recipe.keys import Key, sections_of
from flows.recipe.recipe import PRESETS, preset_names
from flows.recipe.stages import entrypoints
from infra.fingerprint import reached_modules

__all__ = ["key_lines", "shown_default", "shown_type"]

ROOT = Path(__file__).parents[2]
MOST_USES = 6
MISSING = object()
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "min_length": "at least"}


def key_lines(key: Key) -> list[tuple[str, str]]:
    """Heading and text of each thing worth saying."""
    place = inspect.getsourcefile(key.section)
    found = [
        ("", key.help or "(no help)"),
        ("type", shown_type(key)),
        ("default", shown_default(key)),
        ("section", f"{key.section.__name__}, {_short(Path(place))}" if place else key.section.__name__),
        ("presets", "; ".join(f"{name}: {value}" for name, value in _presets(key))),
        ("made by", entrypoints().get(key.path, "").replace(":", ", ")),
        ("read in", ", ".join(_uses(key))),
    ]
    return [(heading, text) for heading, text in found if text]


def shown_type(key: Key) -> str:
    """The type in words, with its bounds."""
    bounds = [
        f"{words} {value:g}" + (" of them" if name == "min_length" else "")
        for mark in key.field.metadata
        for name, words in BOUNDS.items()
        if (value := getattr(mark, name, None)) is not None
    ]
    return ", ".join([_named(key.field.annotation), *bounds])


def shown_default(key: Key) -> str:
    """The default as YAML; empty for a section."""
    if key.field.is_required():
        return "none: it must be given"
    value = key.field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    return _yaml(value)


def _yaml(value: Any) -> str:
    plain = TypeAdapter(Any).dump_python(value, mode="json")
    text = yaml.safe_dump(plain, default_flow_style=True, width=1_000_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def _named(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _named(arguments[0])
    if origin is typing.Literal:
        return " | ".join(map(str, arguments))
    if origin in (tuple, list):
        return f"list of {_named(arguments[0])}"
    if origin is dict:
        return f"mapping of {_named(arguments[0])} to {_named(arguments[1])}"
    if arguments:
        return " or ".join(dict.fromkeys(map(_named, arguments)))
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(each.value) for each in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {str: "text", bool: "true | false", int: "whole number", float: "number"}.get(annotation, str(annotation))


def _presets(key: Key) -> Iterator[tuple[str, str]]:
    for name in preset_names():
        here: Any = _preset(name)
        for part in key.path.split("."):
            here = here.get(part, MISSING) if isinstance(here, dict) else MISSING
        if here is not MISSING and not sections_of(key):
            yield name, _yaml(here)


@cache
def _preset(name: str) -> Any:
    return yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))


def _uses(key: Key) -> list[str]:
    """Files and lines that read an attribute of this name, among those that the key's stage runs."""
    stage, _, below = key.path.partition(".")
    if not below or stage not in entrypoints():
        return []
    paths = [path for path in map(_path, reached_modules(entrypoints()[stage].partition(":")[0])) if path]
    found = [f"{_short(path)}:{line}" for path in paths for line in _reads(path).get(key.name, ())]
    more = len(found) - MOST_USES
    return [*found[:MOST_USES], *([f"and {more} more"] if more > 0 else [])]


def _path(module: str) -> Path | None:
    path = ROOT / f"{module.replace('.', '/')}.py"
    return path if path.exists() and "section" not in path.stem else None


@cache
def _reads(path: Path) -> dict[str, list[int]]:
    """Lines on which attributes are read, by their names."""
    found: dict[str, list[int]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.setdefault(node.attr, []).append(node.lineno)
    return found


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
