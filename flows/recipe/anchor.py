"""Makes the outside paths of a recipe absolute, for runs that begin in another folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows.recipe.recipe import Recipe
from infra.section import External, is_marked

__all__ = ["anchored"]


def anchored(recipe: Recipe, folder: Path) -> Recipe:
    """`recipe` with its relative paths taken from `folder`; no identity changes, for contents stand in for paths."""
    return Recipe.model_validate(_anchored(recipe, folder))


def _anchored(value: Any, folder: Path) -> Any:
    if isinstance(value, BaseModel):
        found = {}
        for name in value.model_fields_set:
            below = getattr(value, name)
            outside = is_marked(type(value).model_fields[name], External)
            found[name] = [_absolute(path, folder) for path in below] if outside else _anchored(below, folder)
        return found
    if isinstance(value, dict):
        return {key: _anchored(below, folder) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_anchored(below, folder) for below in value]
    return value


def _absolute(path: str, folder: Path) -> str:
    return path if "://" in path else str(folder / path)
