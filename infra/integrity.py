"""Folders compared with what was recorded of them: every recorded file is there and as recorded, and nothing else is.

Whatever is used is verified, each time it is used. Files of gigabytes are not read each time: what a process has read
whole it knows again by device, inode, size, modification and change time. That is safe because no program sets a
file's change time, and because a file is only remembered once it has been at rest for longer than the clocks of file
systems are coarse, so that no later change can leave the same stamp.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from infra.errors import UserError
from infra.hashing import file_digest
from infra.paths import relative_path

__all__ = [
    "DAMAGED",
    "GONE",
    "NOT_LISTED",
    "Difference",
    "check_folder",
    "differences",
    "folder_digests",
    "known_digest",
    "plain_files",
]

REST_NS = 3_000_000_000
"""Age in nanoseconds from which a file's stamp is trusted; FAT's clock, the coarsest, ticks every two seconds."""

DAMAGED = "the checksum differs from the recorded one"
GONE = "the file is gone"
NOT_LISTED = "the file was not recorded with the others"


class _Stamp(NamedTuple):
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


_known: dict[str, tuple[_Stamp, str]] = {}


@dataclass(frozen=True)
class Difference:
    """One file that is not as recorded."""

    path: str
    what: str


def known_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; read once per process as long as the file stays the same."""
    key, before = str(path.absolute()), _stamp(path)
    if key in _known and _known[key][0] == before:
        return _known[key][1]
    value = file_digest(path)
    if _stamp(path) == before and time.time_ns() - max(before.modified_ns, before.changed_ns) > REST_NS:
        _known[key] = (before, value)
    return value


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return _Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def plain_files(folder: Path, *, skip: Collection[str] = ()) -> Iterator[str]:
    """Path of every file below `folder`, sorted, without the top-level names in `skip`.

    Raises:
        UserError: a link leads out of the folder, or to a folder: what lies behind it is not the folder's.
        OSError: a folder cannot be read, which is not the same as an empty one.
    """
    real = folder.resolve()
    found: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        top = Path(parent) == folder
        folders[:] = [name for name in folders if not (top and name in skip)]
        for name in (*folders, *(name for name in names if not (top and name in skip))):
            path = Path(parent, name)
            if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(real)):
                raise UserError(f"{path}: a link that leads out of the artifact, or to a folder, is refused; delete it")
        found += [Path(parent, name).relative_to(folder).as_posix() for name in names if not (top and name in skip)]
    yield from sorted(found)


def _raise(error: OSError) -> None:
    raise error


def folder_digests(folder: Path, *, skip: Collection[str] = ()) -> dict[str, str]:
    """SHA-256 of every file of `folder`, by its path there."""
    return {name: known_digest(folder / name) for name in plain_files(folder, skip=skip)}


def differences(
    folder: Path, recorded: Mapping[str, str], *, skip: Collection[str] = (), bytecode: bool = False
) -> list[Difference]:
    """What of `folder` is not as `recorded` (SHA-256 by path): files gone, changed, or never recorded.

    Args:
        folder: Compared whole, but for the top-level names in `skip`.
        recorded: Its files, as somebody vouched for them.
        skip: Top-level names that nobody reads.
        bytecode: Whether ``__pycache__`` may be there: Python leaves it beside code that was run in place.
    """
    present = set(plain_files(folder, skip=skip))
    if bytecode:
        present -= {name for name in present if "/__pycache__/" in f"/{name}"} - recorded.keys()
    found = [Difference(name, NOT_LISTED) for name in present - recorded.keys()]
    found += [Difference(name, GONE) for name in map(relative_path, recorded) if name not in present]
    there = [name for name in recorded if name in present]
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:  # hashing leaves Python's lock
        digests = threads.map(lambda name: known_digest(folder / name), there)
        found += [
            Difference(name, DAMAGED) for name, digest in zip(there, digests, strict=True) if digest != recorded[name]
        ]
    return sorted(found, key=lambda each: each.path)


def check_folder(folder: Path, recorded: Mapping[str, str], remedy: str, *, skip: Collection[str] = ()) -> None:
    """Raise a `UserError` of one line, which names the first file and ends in `remedy`, on any difference."""
    wrong = differences(folder, recorded, skip=skip)
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{folder / wrong[0].path}: {wrong[0].what}{more}; {remedy}")
