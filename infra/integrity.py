"""Folders compared with what was recorded of them: every recorded file is there and as recorded, and nothing else is.

Whatever is used is verified, each time it is used. Files of gigabytes are not read each time: what a process has read
whole it knows again by device, inode, size, modification and change time, also under another name. That is safe because
no program sets a file's change time, and because a file is only remembered once it has been at rest for longer than the
clocks of file systems are coarse, so that no later change can leave the same stamp.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
    "hashed",
    "known_digest",
    "known_digests",
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


_known: dict[tuple[int, int], tuple[_Stamp, str]] = {}
"""By device and inode."""
Hash = Callable[[Sequence[Path]], Sequence[str]]
"""Reads files and gives their SHA-256, in order."""


@dataclass(frozen=True)
class Difference:
    """One file that is not as recorded."""

    path: str
    what: str


def hashed(files: Sequence[Path]) -> list[str]:
    """SHA-256 of each file's bytes, in hex, in order; read by a thread per core, for hashing leaves Python's lock."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        return list(threads.map(file_digest, files))


def known_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; read once per process as long as the file stays the same."""
    return known_digests([path])[0]


def known_digests(files: Sequence[Path], read: Hash = hashed) -> list[str]:
    """SHA-256 of each file's bytes, in hex, in order; those that have been read before and are the same are not given
    to `read`."""
    began, stamps = time.time_ns(), [_stamp(path) for path in files]
    known = [_known.get((stamp.device, stamp.inode)) for stamp in stamps]
    found = [each[1] if each and each[0] == stamp else "" for each, stamp in zip(known, stamps, strict=True)]
    new = [place for place, value in enumerate(found) if not value]
    for place, value in zip(new, read([files[place] for place in new]) if new else (), strict=True):
        found[place], before = value, stamps[place]
        if began - max(before.modified_ns, before.changed_ns) > REST_NS and _stamp(files[place]) == before:
            _known[before.device, before.inode] = (before, value)
    return found


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
    names = list(plain_files(folder, skip=skip))
    return dict(zip(names, known_digests([folder / name for name in names]), strict=True))


def differences(
    folder: Path,
    recorded: Mapping[str, str],
    *,
    skip: Collection[str] = (),
    bytecode: bool = False,
    read: Hash = hashed,
) -> list[Difference]:
    """What of `folder` is not as `recorded` (SHA-256 by path): files gone, changed, or never recorded.

    Args:
        folder: Compared whole, but for the top-level names in `skip`.
        recorded: Its files, as somebody vouched for them.
        skip: Top-level names that nobody reads.
        bytecode: Whether ``__pycache__`` may be there: Python leaves it beside code that was run in place.
        read: Takes the checksums of files that this process does not know.
    """
    present = set(plain_files(folder, skip=skip))
    if bytecode:
        present -= {name for name in present if "/__pycache__/" in f"/{name}"} - recorded.keys()
    found = [Difference(name, NOT_LISTED) for name in present - recorded.keys()]
    found += [Difference(name, GONE) for name in map(relative_path, recorded) if name not in present]
    there = [name for name in recorded if name in present]
    digests = known_digests([folder / name for name in there], read)
    found += [
        Difference(name, DAMAGED) for name, digest in zip(there, digests, strict=True) if digest != recorded[name]
    ]
    return sorted(found, key=lambda each: each.path)


def check_folder(
    folder: Path, recorded: Mapping[str, str], remedy: str, *, skip: Collection[str] = (), read: Hash = hashed
) -> None:
    """Raise a `UserError` of one line, which names the first file and ends in `remedy`, on any difference."""
    wrong = differences(folder, recorded, skip=skip, read=read)
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{folder / wrong[0].path}: {wrong[0].what}{more}; {remedy}")
