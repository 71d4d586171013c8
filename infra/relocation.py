"""A store that was moved or copied: MLflow keeps whole paths of its files, which then name where the store once was.

Every file of a store's own registry lies below ``<root>/mlartifacts``. Readers look a recorded path up in the store
that they were given (`local_path`), so that a copy never reads the files of its original; before anything is written,
and by ``deepmill doctor --relocate``, the records themselves are brought here (`relocate`).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from infra.errors import UserError
from infra.settings import DATABASE

__all__ = ["local_path", "moved", "relocate"]

ARTIFACTS = "mlartifacts"
"""Folder of a store that MLflow's files lie in."""
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow's database keeps paths."""


@dataclass(frozen=True)
class _Stale:
    """A recorded path that leads elsewhere than to this store."""

    table: str
    column: str
    before: str
    after: str


def local_path(location: str, root: Path) -> Path | None:
    """Where the files of a recorded `location` are, if they are on this machine: those of the store `root` first.

    Returns:
        The path, which need not exist; None for a location on a server.
    """
    recorded = _path(location)
    if recorded is None:
        return None
    here = _here(recorded, root)
    return here if here is not None and here.exists() else recorded


def _path(location: str) -> Path | None:
    """The path of a ``file:`` URI or of a plain path; None for an address."""
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(location) if location.startswith("/") else None


def _here(recorded: Path, root: Path) -> Path | None:
    """What `recorded` would be in the store `root`; None where it never lay in a store's folder of files."""
    parts = PurePosixPath(recorded).parts
    if ARTIFACTS not in parts or ".." in parts:
        return None
    place = len(parts) - 1 - parts[::-1].index(ARTIFACTS)
    return root.absolute() / Path(*parts[place:])


def database_of(root: Path) -> Path | None:
    """The store's own registry; None where it has none, or none yet.

    A registry that several stores share keeps the paths of all of them: it is nobody's to change.
    """
    path = root / DATABASE
    return path if path.is_file() else None


def moved(root: Path) -> int:
    """How many recorded paths lead to where the store was before; reads the registry only."""
    path = database_of(root)
    if path is None:
        return 0
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as rows:
        return sum(1 for _ in _stale(rows, root))


def relocate(root: Path) -> int:
    """Bring every recorded path of the store's own registry to where the store is now; how many there were.

    All in one transaction, and nothing but the paths. Harmless where nothing moved.

    Raises:
        UserError: the database cannot be written to.
    """
    path = database_of(root)
    if path is None or not moved(root):
        return 0
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as rows, rows:
            rows.execute("BEGIN IMMEDIATE")
            stale = list(_stale(rows, root))
            for each in stale:
                rows.execute(
                    f"UPDATE {each.table} SET {each.column} = ? WHERE {each.column} = ?", (each.after, each.before)
                )
            return len(stale)
    except sqlite3.Error as error:
        raise UserError(
            f"{path}: cannot change the paths of a store that was moved ({error}); make it writable, then deepmill "
            "doctor --relocate"
        ) from None


def _stale(rows: sqlite3.Connection, root: Path) -> Iterator[_Stale]:
    for table, column in COLUMNS:
        if not rows.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone():
            continue
        found = rows.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()
        for (before,) in found:
            after = _moved_to(before, root)
            if after is not None:
                yield _Stale(table, column, before, after)


def _moved_to(location: str, root: Path) -> str | None:
    """What to record in place of `location`; None where it is right, or not a path of a store."""
    recorded = _path(location)
    here = _here(recorded, root) if recorded is not None else None
    if recorded is None or here is None or recorded == here:
        return None
    if recorded.exists() and not here.exists():
        return None  # files that were never this store's
    before = Path(*recorded.parts[: len(recorded.parts) - len(here.relative_to(root.absolute()).parts)])
    if before.exists() and before.samefile(root):
        return None  # the same folder by another name
    return here.as_uri() if location.startswith("file:") else str(here)
