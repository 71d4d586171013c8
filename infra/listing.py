"""What an object store holds, asked so that "nothing" and "no answer" are never the same value.

fsspec's `glob`, `find` and `walk` leave out what they cannot list, be it for want of rights, of the bucket, or of an
answer; here only the absence of the object itself is absence, everything else is raised.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.errors import UserError

__all__ = ["Entry", "children", "expand", "read_object"]

ABSENT = ("", "404", "NoSuchKey")
"""What an S3 server calls an object that is not there; a missing bucket (``NoSuchBucket``) is another matter."""


@dataclass(frozen=True)
class Entry:
    """One name in a folder of an object store."""

    name: str
    key: str
    is_folder: bool
    modified: datetime | None = None


def children(filesystem: Any, folder: str) -> list[Entry]:
    """What lies directly in `folder`, sorted by name; nothing where there is no such folder.

    Raises:
        OSError: the store does not list it: no rights, no bucket, no answer.
    """
    filesystem.invalidate_cache()
    try:
        found = filesystem.ls(folder, detail=True)
    except FileNotFoundError as error:
        _raise_unless_absent(folder, error)
        return []
    entries = [_entry(each) for each in found]
    return sorted((each for each in entries if each.key != folder.rstrip("/")), key=lambda each: each.name)


def _entry(info: Mapping[str, Any]) -> Entry:
    key = str(info["name"]).rstrip("/")
    return Entry(key.rsplit("/", 1)[-1], key, info["type"] == "directory", info.get("LastModified"))


def expand(filesystem: Any, pattern: str) -> list[str]:
    """The files that a glob pattern names, sorted. `**` stands for any number of folders.

    Raises:
        OSError: a folder on the way cannot be listed, so that files might be missing unnoticed.
    """
    parts = pattern.split("/")
    first = next(place for place, part in enumerate(parts) if any(sign in part for sign in "*?["))
    return sorted(set(_expand(filesystem, "/".join(parts[:first]), parts[first:])))


def _expand(filesystem: Any, folder: str, parts: list[str]) -> list[str]:
    head, rest = parts[0], parts[1:]
    found: list[str] = []
    if head == "**" and rest:  # no folder at all is among "any number"
        found += _expand(filesystem, folder, rest)
    for each in children(filesystem, folder):
        if head == "**":
            found += _expand(filesystem, each.key, parts) if each.is_folder else [] if rest else [each.key]
        elif fnmatch.fnmatchcase(each.name, head):
            if rest and each.is_folder:
                found += _expand(filesystem, each.key, rest)
            elif not rest and not each.is_folder:
                found.append(each.key)
    return found


def read_object(filesystem: Any, key: str) -> bytes | None:
    """The bytes of an object; None only where the store says that there is none.

    Raises:
        OSError: the store does not give it: no rights, no bucket, no answer.
    """
    filesystem.invalidate_cache()
    try:
        return bytes(filesystem.cat_file(key))
    except FileNotFoundError as error:
        _raise_unless_absent(key, error)
        return None


def _raise_unless_absent(key: str, error: FileNotFoundError) -> None:
    answer = getattr(error.__cause__, "response", None) or {}
    code = str(answer.get("Error", {}).get("Code", ""))
    if code not in ABSENT:
        raise UserError(f"{key}: the store says {code}; check the address and AWS_*") from error
