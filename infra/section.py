"""Base class of every recipe section, and the markers of its fields."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from types import NoneType
from typing import Annotated, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo

__all__ = ["Added", "External", "ExternalPaths", "ForPeople", "Formerly", "Section", "earlier_names", "is_marked"]


log = logging.getLogger("deepmill.recipe")


class Section(BaseModel):
    """A frozen group of recipe keys; unknown keys are refused, names of earlier versions (`Formerly`) understood."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: object) -> object:
        """Give keys with an earlier name their present one.

        Raises:
            ValueError: both are there.
        """
        if not isinstance(values, Mapping):
            return values
        found = dict(values)
        for name in _numbers(cls) & found.keys():
            if isinstance(found[name], bool):
                raise ValueError(f"{name} wants a number, not {str(found[name]).lower()}")
        for name, earlier in earlier_names(cls).items():
            if earlier in found:
                if name in found:
                    raise ValueError(f"{earlier} is now called {name}; leave {earlier} out")
                _deprecate(earlier, name)
                found[name] = found.pop(earlier)
        return found


@lru_cache
def _numbers(section: type[Section]) -> frozenset[str]:
    """Keys that hold a number, for which pydantic would take true for 1."""
    numbers = ({int}, {float}, {int, NoneType}, {float, NoneType})
    types = {name: field.annotation for name, field in section.model_fields.items()}
    return frozenset(name for name, kind in types.items() if set(get_args(kind) or (kind,)) in numbers)


class External:
    """Marks a field that names external files: in a stage's identity their content digests stand in for the paths."""


class Added:
    """Marks a field that came after artifacts had been made: at its default it is no part of an identity, so that they
    are still found.
    """


class ForPeople:
    """Marks a field that only people read, such as a licence: it is no part of an identity, whatever it says."""


class Formerly:
    """Marks a field that had another name: that one is still understood, with a warning. Identities keep it, so that
    artifacts that were made under it are still found.
    """

    def __init__(self, name: str) -> None:
        self.name = name


def is_marked(field: FieldInfo, kind: type) -> bool:
    """Whether a field has a marker of this kind, the class or one of its instances."""
    return any(isinstance(marker, kind) or marker is kind for marker in field.metadata)


def earlier_names(section: type[BaseModel]) -> dict[str, str]:
    """Earlier name of each field that had one, by its present name."""
    return {
        name: marker.name
        for name, field in section.model_fields.items()
        for marker in field.metadata
        if isinstance(marker, Formerly)
    }


@lru_cache  # a recipe is validated many times over
def _deprecate(earlier: str, name: str) -> None:
    log.warning("the recipe key %s is now called %s; the old name will go", earlier, name)


def _name_something(paths: tuple[str, ...]) -> tuple[str, ...]:
    """An empty path would be the folder that one is in.

    Raises:
        ValueError: one is empty.
    """
    if not all(path.strip() for path in paths):
        raise ValueError("wants paths that are not empty")
    return paths


ExternalPaths = Annotated[tuple[str, ...], AfterValidator(_name_something), External()]
"""Local paths, folders, globs or ``s3://``/``https://`` addresses of files that are not artifacts."""
