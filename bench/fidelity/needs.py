"""What a bench needs and may not find: collections fetched for measuring, and peers."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Missing", "folder", "peer"]

Made = TypeVar("Made")


class Missing(Exception):  # noqa: N818  (a finding about the machine)
    """Something that a bench needs is not there; the message says what, and how it is to be had."""


def folder(data: Path | None, name: str, source: str, *holds: str) -> Path:
    """The folder `name` in `data`, which must hold the paths `holds`.

    Raises:
        Missing: it is not there; `source` says where it is to be had.
    """
    place = (data or Path()) / name
    if data is None or not all((place / path).exists() for path in holds):
        raise Missing(f"needs --data FOLDER with {name}/ in it ({', '.join(holds)}): {source}")
    return place


def peer(module: str, make: Callable[[Any], Made]) -> Made | None:
    """The peer's function that `make` takes from its `module`, or None where that is not installed."""
    try:
        return make(import_module(module))
    except ImportError:
        return None
