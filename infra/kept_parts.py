"""Parts of artifacts, kept so that a later artifact of the same stage takes them over in place of making them again.

A stage whose tasks each write files of their own keeps these under a key of all that they follow from: the code and the
packages that ran, the settings, and the digests of what the task read. A task with the same key would write the same
bytes, so an artifact made of kept parts is the one that is made from nothing. Parts lie below the store's local folder,
hard links to the files of the artifacts where the file system has them, and are verified whenever they are taken. A
part that nobody took for some days goes with the leftovers (`deepmill gc`); without it the task runs again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from infra.facts import Facts
from infra.hashing import digest, file_digest

__all__ = ["FOLDER", "KeptParts", "PartsPlace", "holding", "installed", "kept_parts", "unused", "use"]

FOLDER = ".parts"
"""Below the store's local folder."""
RECORD = "part.json"
"""In a part's folder: SHA-256 of its files by name. Written before the folder takes its name."""
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


class PartsPlace(Facts):
    """What a stage's process is told of kept parts."""

    folder: str
    """Of the stage's."""
    made_by: str
    """Digest of the code and the packages that run."""
    external: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each file from outside the store, by path."""


_place: PartsPlace | None = None


def use(place: PartsPlace | None) -> None:
    """Keep and take parts there from now on; None for not at all."""
    global _place
    _place = place


def kept_parts() -> KeptParts | None:
    """Those of the running stage; None where it keeps none."""
    return KeptParts(_place) if _place else None


@cache
def installed() -> list[str]:
    """The interpreter and every installed distribution with its version: whichever of them made the bytes."""
    names = {sys.version}
    for folder in sys.path:
        with contextlib.suppress(OSError):
            names |= {each.name for each in Path(folder).iterdir() if each.suffix in (".dist-info", ".egg-info")}
    return sorted(names)


class KeptParts:
    """The kept parts of one stage."""

    def __init__(self, place: PartsPlace) -> None:
        self.place, self.folder = place, Path(place.folder)

    def take(self, follows_from: Any, files: Mapping[str, Path]) -> bool:
        """Put the files of the part that follows from this (a JSON value) in their places; whether there is one.

        Args:
            files: where the file of each name belongs; what the part does not have is not there afterwards either.
        """
        part = self.folder / self.key(follows_from)
        try:
            recorded: dict[str, str] = json.loads((part / RECORD).read_bytes())
            os.utime(part)
            for name, path in files.items():
                path.unlink(missing_ok=True)
                if name in recorded:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    link_or_copy(part / name, path)
                    if file_digest(path) != recorded[name]:
                        raise ValueError(name)
        except (FileNotFoundError, ValueError, TypeError):  # none, being deleted, or damaged: then it is made again
            for path in files.values():
                path.unlink(missing_ok=True)
            shutil.rmtree(part, ignore_errors=True)
            return False
        return True

    def keep(self, follows_from: Any, files: Mapping[str, Path]) -> None:
        """Keep what lies at these places, whole or not at all; a file that is not there belongs to the part as such."""
        part = self.folder / self.key(follows_from)
        unfinished = part.with_name(f".{part.name}-{uuid.uuid4().hex}")
        unfinished.mkdir(parents=True)
        try:
            recorded = {}
            for name, path in files.items():
                if path.exists():
                    link_or_copy(path, unfinished / name)
                    recorded[name] = file_digest(path)
            (unfinished / RECORD).write_text(json.dumps(recorded))
            with contextlib.suppress(FileExistsError, OSError):  # another run has kept it
                unfinished.rename(part)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def external(self, path: str) -> str | None:
        """SHA-256 of a file from outside, as the plan took it."""
        return self.place.external.get(path)

    def key(self, follows_from: Any) -> str:
        """Name of the part's folder."""
        return digest([self.place.made_by, follows_from])[:32]


def unused(local: Path, oldest: float) -> Iterator[tuple[Path, int]]:
    """The folders below a store's local one of parts that were last taken, or made, before this time (seconds since
    1970), each with the bytes that no artifact holds besides."""
    for part in sorted((local / FOLDER).glob("*/*")):
        with contextlib.suppress(FileNotFoundError):  # taken away meanwhile
            if part.stat().st_mtime < oldest:
                files = [path.stat() for path in part.iterdir()]
                yield part, sum(each.st_size for each in files if each.st_nlink == 1)


def holding(local: Path, digests: Collection[str], stages: Collection[str] = ()) -> Iterator[tuple[Path, int]]:
    """The folders of parts that have a file with one of these SHA-256, and all those of `stages`; each with its
    bytes."""
    for part in sorted((local / FOLDER).glob("*/*")):
        with contextlib.suppress(FileNotFoundError, ValueError):  # taken away meanwhile, or damaged
            recorded = json.loads((part / RECORD).read_bytes())
            if part.parent.name in stages or not set(recorded.values()).isdisjoint(digests):
                yield part, sum(path.stat().st_size for path in part.iterdir())


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none; either has its name when it is whole."""
    partial = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    try:
        try:
            os.link(source, partial)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
