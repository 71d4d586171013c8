"""Names that came from outside (a manifest, a registry, a request, an archive) stay within the folder they belong to.

One mechanism for all of them: `relative_path` refuses a name that is not plainly below its folder, whatever system it
was written for; `within` also refuses one that a link on this disk leads out.
"""

from __future__ import annotations

import re
from pathlib import Path

from infra.errors import UserError

__all__ = ["UnsafePathError", "file_name", "relative_path", "within"]

DRIVE = re.compile(r"[A-Za-z]:")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class UnsafePathError(UserError, ValueError):
    """A name that leads out of its folder, or would on some system. Also a `ValueError`, for pydantic's validators."""


def relative_path(name: str) -> str:
    """`name`, if it is a plain relative path with forward slashes.

    Raises:
        UnsafePathError: it is absolute, names a drive, climbs with ``..``, or has a backslash or control character.
    """
    parts = name.split("/")
    if (
        CONTROL.search(name)
        or "\\" in name
        or DRIVE.match(name)
        or any(part in ("", ".", "..") for part in parts)  # the empty part: absolute, doubled slash, an address
    ):
        raise UnsafePathError(f"{name!r}: a path that leads out of its folder is refused")
    return name


def file_name(name: str) -> str:
    """`name`, if it is one part of a path: an identity, a run's name, a note's.

    Raises:
        UnsafePathError: it is a path, or leads out of its folder.
    """
    if "/" in relative_path(name):
        raise UnsafePathError(f"{name!r}: a name is wanted, not a path")
    return name


def within(folder: Path, name: str) -> Path:
    """The path `name` below `folder`, which no link on this disk leads out of the folder; it need not exist.

    Raises:
        UnsafePathError: it leads out.
    """
    path = folder / relative_path(name)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UnsafePathError(f"{path}: a link leads out of {folder}; delete it")
    return path
