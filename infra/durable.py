"""Files that are whole or not there, on disk where that matters. Light to import: every stage begins with it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync", "write_durably", "write_whole"]


def write_whole(path: Path, body: bytes, *, synced: bool = False) -> None:
    """Write a file whole or not at all, whoever else does so meanwhile; with `synced` its bytes are on disk first."""
    unfinished = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        with unfinished.open("wb") as handle:
            handle.write(body)
            if synced:
                handle.flush()
                os.fsync(handle.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_durably(path: Path, body: bytes) -> None:
    """Write a file whole or not at all, and have it on disk when this returns."""
    write_whole(path, body, synced=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file on disk, or what was renamed into a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
