"""Digests of files from outside the store, remembered, so that a file that has not changed is read once."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from infra.errors import UserError
from infra.integrity import hashed, known_digests
from infra.storage import ExternalFile, digest_of

__all__ = ["DigestCache", "Take", "digests_of", "read_files"]

Take = Callable[[Sequence[ExternalFile]], list[str]]
"""Reads files and gives their SHA-256, in order."""
WORKERS = 8
"""Files read at once, at least: hashing leaves Python's lock, and an object store answers many requests at a time."""
MANY_BYTES = 20_000_000_000
"""More than this is worth a cluster's work: half a minute of a process that does nothing else."""


def digests_of(files: Sequence[Path], elsewhere: Take | None = None) -> list[str]:
    """SHA-256 of each local file, in order. Those that this process has not read before (`infra.integrity`) are read
    by a thread per core, or by `elsewhere` if they are over `MANY_BYTES`."""
    return known_digests(files, partial(read_files, elsewhere))


def read_files(elsewhere: Take | None, files: Sequence[Path]) -> Sequence[str]:
    """SHA-256 of each local file, in order, by a thread per core, or by `elsewhere` if they are over `MANY_BYTES`."""
    found = [ExternalFile(str(file), file.name, file.stat().st_size) for file in files]
    many = sum(file.size for file in found) > MANY_BYTES
    return elsewhere(found) if elsewhere and many else hashed(files)


class DigestCache:
    """File digests in one SQLite file beside the store.

    A local file is known by path, size, modification time and inode; one of an object store or a web server by address,
    size and the version (or ETag) that the server names. Where it names none the file is read whole each time.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            self._rows = _opened(path)
        except sqlite3.OperationalError as error:
            raise UserError(f"{path}: {error}; check who may write there, or delete it: it only remembers") from None
        except sqlite3.DatabaseError:
            if path is None:
                raise
            path.unlink()  # damaged: what it remembers is read again
            self._rows = _opened(path)

    def of(self, files: Iterable[ExternalFile], elsewhere: Take | None = None) -> list[str]:
        """SHA-256 of each file, in order.

        Those not known yet are read by several threads, or by `elsewhere` where there are more than `MANY_BYTES` of
        them.
        """
        wanted = list(files)
        keys = [_key(file) for file in wanted]
        found = [self._known(key) for key in keys]
        unknown = [place for place, digest in enumerate(found) if digest is None]
        new = [wanted[place] for place in unknown]
        many = sum(file.size for file in new) > MANY_BYTES
        with ThreadPoolExecutor(max(WORKERS, os.cpu_count() or 1)) as threads:
            digests = elsewhere(new) if elsewhere and many else threads.map(digest_of, new)
            for place, digest in zip(unknown, digests, strict=True):
                found[place] = digest
                if key := keys[place]:
                    with self._rows:
                        self._rows.execute("INSERT OR REPLACE INTO digests VALUES (?, ?)", (key, digest))
        return [digest for digest in found if digest is not None]

    def _known(self, key: str) -> str | None:
        row = self._rows.execute("SELECT digest FROM digests WHERE key = ?", (key,)).fetchone() if key else None
        return str(row[0]) if row else None

    def close(self) -> None:
        self._rows.close()


def _opened(path: Path | None) -> sqlite3.Connection:
    rows = sqlite3.connect(path or ":memory:", timeout=30)
    rows.execute("CREATE TABLE IF NOT EXISTS digests (key TEXT PRIMARY KEY, digest TEXT NOT NULL)")
    return rows


def _key(file: ExternalFile) -> str:
    """What tells that the file is still the same; empty where nothing does."""
    if file.is_remote:
        weak = file.version.startswith("W/")  # says that the file means the same, not that it has the same bytes
        return f"{file.path}|{file.size}|{file.version}" if file.version and not weak else ""
    path = Path(file.path)
    status = path.stat()
    return f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
