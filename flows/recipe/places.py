"""What stands at a place of a model: the models there and their keys."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

__all__ = ["keys_at", "sections_at"]


def sections_at(root: type[BaseModel], location: Sequence[str], *, strict: bool = False) -> list[type[BaseModel]]:
    """The models at a place below `root`, through mappings, lists and the variants of unions.

    `strict` takes no name that leads nowhere; else it is passed over, as pydantic's errors name more than keys.
    """
    models: list[Any] = [root]
    for part in location:
        below: list[Any] = []
        for model in models:
            if isinstance(model, type) and issubclass(model, BaseModel):
                if part in model.model_fields:
                    below += _variants(model.model_fields[part].annotation)
                elif part == model.model_fields.get("kind", Field()).default:
                    below.append(model)  # pydantic names the variant of a tagged union in the location
            elif typing.get_origin(model) in (dict, list, tuple):
                below += _variants([each for each in typing.get_args(model) if each is not ...][-1])
        models = below or ([] if strict else models)
    return [model for model in models if isinstance(model, type) and issubclass(model, BaseModel)]


def keys_at(root: type[BaseModel], location: Sequence[str], *, strict: bool = False) -> list[str]:
    """Keys of the sections at a place below `root`, each once; `strict` as in `sections_at`."""
    return list(
        dict.fromkeys(name for model in sections_at(root, location, strict=strict) for name in model.model_fields)
    )


def _variants(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _variants(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [variant for argument in typing.get_args(annotation) for variant in _variants(argument)]
    return [annotation]
