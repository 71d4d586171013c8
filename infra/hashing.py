"""Digests: of values (canonical JSON), of files, and a cache so that large unchanged files are read once."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["DigestCache", "canonical_json", "digest", "file_digest", "identity_of"]

IDENTITY_LENGTH = 16
"""Hex digits of an identity: 64 bits, far beyond what a store of artifacts can collide in, and short enough to read."""


def canonical_json(value: Any) -> str:
    """`value` as JSON with one spelling: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def identity_of(stage: str, version: int, config: Any, inputs: dict[str, str]) -> str:
    """What an artifact is: the hash of its stage, the stage's version, its configuration and its inputs by role."""
    return digest({"stage": stage, "version": version, "config": config, "inputs": inputs})[:IDENTITY_LENGTH]


class DigestCache:
    """File digests remembered by (path, size, modification time, inode), in one SQLite file beside the store."""

    def __init__(self, path: Path | None) -> None:
        self._rows = sqlite3.connect(path or ":memory:", timeout=30)
        self._rows.execute("CREATE TABLE IF NOT EXISTS digests (key TEXT PRIMARY KEY, digest TEXT NOT NULL)")

    def file(self, path: Path) -> str:
        """SHA-256 of `path`, from memory when the file has not changed since."""
        status = path.stat()
        key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
        row = self._rows.execute("SELECT digest FROM digests WHERE key = ?", (key,)).fetchone()
        if row:
            return str(row[0])
        value = file_digest(path)
        with self._rows:
            self._rows.execute("INSERT OR REPLACE INTO digests VALUES (?, ?)", (key, value))
        return value

    def close(self) -> None:
        self._rows.close()


def tree_files(folder: Path, *, skip: Iterable[str] = ()) -> list[Path]:
    """Every file below `folder`, as relative paths in sorted order, without the top-level names in `skip`."""
    skipped = set(skip)
    found = []
    for parent, folders, names in os.walk(folder):
        relative = Path(parent).relative_to(folder)
        if relative == Path():
            folders[:] = [name for name in folders if name not in skipped]
            names = [name for name in names if name not in skipped]
        found += [relative / name for name in names]
    return sorted(found, key=lambda path: path.as_posix())
