"""JSON objects that others define: a checkpoint's ``config.json``, the body of a request, a tool's report.

What this project defines itself has a model of its own; nothing but what comes from outside, or goes there as it came,
is a `JsonObject`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from infra.errors import UserError

__all__ = ["JsonObject", "flatten", "object_in", "read_object"]

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object as it was read, or is to be written."""


def read_object(path: Path) -> JsonObject:
    """The object in a JSON file.

    Raises:
        UserError: it is no JSON, or something else than an object.
        OSError: it cannot be read.
    """
    return object_in(path.read_bytes(), str(path), "make it again")


def object_in(body: bytes, place: str, remedy: str) -> JsonObject:
    """The object that JSON in UTF-8 holds.

    Raises:
        UserError: it is no JSON, or something else than an object; names `place` and `remedy`.
    """
    try:
        found = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: no valid JSON ({error}); {remedy}") from None
    if not isinstance(found, dict):
        raise UserError(f"{place}: holds no JSON object but {type(found).__name__}; {remedy}")
    return found


def flatten(values: Mapping[str, Any], prefix: str = "") -> JsonObject:
    """Nested mappings as one level of dotted keys."""
    flat: JsonObject = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat
