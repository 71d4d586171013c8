"""Files that are whole or not there, on disk where that matters. Light to import: every stage begins with it."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

__all__ = ["sync", "write_durably", "write_whole"]


def write_whole(path: Path, body: bytes, *, synced: bool = False) -> None:
    """Write a file whole or not at all, whoever else does so meanwhile; with `synced` its bytes are on disk first.

    Raises:
        OSError: of `path`, whichever name it was written under.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    unfinished = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        with unfinished.open("wb") as handle:
            handle.write(body)
            if synced:
                handle.flush()
                os.fsync(handle.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # a file system that may only be read says so before it looks
            unfinished.unlink()


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
