"""YAML as recipes are written in it: YAML 1.2's numbers, and no key that stands twice or has lost what is below it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from infra.errors import UserError
from infra.nearest import hint

__all__ = ["near_file", "read_file", "read_value", "yaml_mistake"]

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$")
_EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9]*)?[eE][-+]?[0-9]{1,3}$")
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """PyYAML has YAML 1.1: ``1e6`` a text, ``010`` eight, ``1:30`` ninety; and it takes the last of two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}int"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver(f"{_TAG}float", _EXPONENT, list("-+0123456789"))


def read_file(path: Path) -> Any:
    """What the file holds.

    Raises:
        UserError: a key of the first level has nothing below it.
        yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError, ValueError: as YAML and files have it.
    """
    loader = _Loader(path.read_text(encoding="utf-8"))
    loader.name = path.name
    try:
        node = loader.get_single_node()
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(value, yaml.ScalarNode) and not value.value and value.tag == f"{_TAG}null":
                raise UserError(
                    f"{path}: {key.value}: has nothing below it in line {key.start_mark.line + 1}; write "
                    f"{key.value}: {{}} for its defaults, or {key.value}: null to leave it out"
                )
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def near_file(path: Path, otherwise: str, presets: Iterable[str] = ()) -> str:
    """``did you mean FILE?``, the preset or the YAML file beside `path` whose name is nearest; `otherwise` where none
    is near."""
    there = {name: name for name in presets}
    there |= {each.stem: str(each) for each in sorted(path.parent.glob("*.y*ml")) if each.stem not in there}
    near = hint(path.stem, there, "", 0.7).removeprefix("did you mean ").removesuffix("?")
    return f"did you mean {there[near]}?" if near else otherwise


def read_value(text: str) -> Any:
    """One value of a setting."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def yaml_mistake(error: yaml.YAMLError) -> str:
    """What keeps a file from being YAML, as ``line 3, column 1: a tab, where YAML wants blanks``."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark, problem = error.problem_mark, error.problem or ""
    if r"'\t'" in problem:
        problem = "a tab, where YAML wants blanks"
    problem = problem.replace("'<stream end>'", "the end of the file")
    began = f" ({error.context}, line {error.context_mark.line + 1})" if error.context and error.context_mark else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{began}"
