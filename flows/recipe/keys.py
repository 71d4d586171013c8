"""The keys of a recipe: found by their dotted names, through sections, lists and the variants of unions."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.recipe.places import keys_at, sections_at
from flows.recipe.recipe import Recipe
from infra.errors import UserError

__all__ = ["Key", "all_keys", "find_key", "sections_of"]


@dataclass(frozen=True)
class Key:
    """One key of the recipe."""

    path: str
    """Dotted: ``grpo.kl_weight``; a name of one's own within it is written ``<name>``."""
    section: type[BaseModel]
    """The model that has it."""
    field: FieldInfo

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def help(self) -> str:
        """What it does, on one line."""
        return " ".join((self.field.description or "").split())


def find_key(path: str) -> Key:
    """The key of that name.

    Raises:
        UserError: there is none; the nearest is named.
    """
    path = path.rstrip(".")  # a shell completes it up to there
    *parents, name = path.split(".")
    for section in sections_at(Recipe, parents, strict=True):
        if name in section.model_fields:
            return Key(path, section, section.model_fields[name])
    if sections_at(Recipe, [*parents, name], strict=True):  # a name of one's own in a mapping: `extract.sources.shelf`
        return replace(find_key(".".join(parents)), path=path)
    known = keys_at(Recipe, parents, strict=True)
    near = difflib.get_close_matches(name.lower(), known, 1, 0.5)
    where = [key.path for key in all_keys() if key.name == name]
    if where:
        hint = f"did you mean {where[0]}?"
    elif near:
        hint = f"did you mean {'.'.join([*parents, near[0]])}?"
    else:
        hint = f"there are {', '.join(known)}" if known else "deepmill explain lists the sections"
    raise UserError(f"{path}: no such key; {hint}")


def sections_of(key: Key) -> list[type[BaseModel]]:
    """The models below a key, several where it is a union; none where it holds a value."""
    return sections_at(Recipe, key.path.split("."), strict=True)


def all_keys() -> Iterator[Key]:
    """Every key of every section, in the order of the recipe."""
    yield from _below(Recipe, "", ())


def _below(section: type[BaseModel], prefix: str, above: tuple[type[BaseModel], ...]) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        yield Key(f"{prefix}{name}", section, field)
        for models, between in _nested(field.annotation):
            for model in models:
                if model not in (*above, section):
                    yield from _below(model, f"{prefix}{name}.{between}", (*above, section))


def _nested(annotation: Any) -> Iterator[tuple[list[type[BaseModel]], str]]:
    """Models in the type of a field, and what stands between its name and theirs."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield [annotation], ""
    elif origin is dict:
        for models, between in _nested(arguments[1]):
            yield models, f"<name>.{between}"
    elif origin is typing.Annotated:
        yield from _nested(arguments[0])
    else:
        for argument in arguments:
            yield from _nested(argument)
