"""Files that nobody but their owner may read: states, databases, logs, logins.

New ones are made so, and ones that an older version or another hand left open are closed. What another user owns is
never trusted: whoever owns a folder can put anything into it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from infra.errors import UserError

__all__ = ["PRIVATE_UMASK", "close_files", "private_folder", "read_private", "write_private"]

PRIVATE_UMASK = 0o077
OTHERS = 0o077
"""What group and others may do."""


def private_folder(folder: Path) -> Path:
    """`folder`, made where it is missing, open to its owner alone, as is all that lies in it.

    Raises:
        UserError: it belongs to another user, or is no folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.stat()  # it may be a link to a folder of ours
    if not stat.S_ISDIR(found.st_mode):
        raise UserError(f"{folder}: not a folder; move it away, or name another place with DEEPMILL_HOME")
    if found.st_uid != os.geteuid():
        raise UserError(f"{folder}: belongs to another user; name a folder of your own with DEEPMILL_HOME")
    close_files([folder])
    return folder


def close_files(paths: list[Path]) -> None:
    """Take from group and others what they may do with `paths` and all that lies below them, as far as it is ours."""
    for path in paths:
        _close(path)
        if path.is_dir() and not path.is_symlink():
            for each in _below(path):
                _close(each)


def _below(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):  # follows no links
        yield from (Path(where) / name for name in (*folders, *files))


def _close(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # a log or a journal of SQLite that went away meanwhile
        found = path.lstat()
        if found.st_mode & OTHERS and found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode):
            path.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS)


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, all or nothing; no other mode is ever seen."""
    growing = path.with_name(f".{path.name}.{os.getpid()}")
    growing.unlink(missing_ok=True)
    descriptor = os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    growing.replace(path)


def read_private(path: Path) -> str | None:
    """The text of a file that is ours and closed to others; None where there is none.

    Raises:
        UserError: others may read or write it, or it is not a file of ours.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it must be a file of your own") from None
    with os.fdopen(descriptor, encoding="utf-8") as handle:
        found = os.fstat(handle.fileno())
        if found.st_uid != os.geteuid() or found.st_mode & OTHERS or not stat.S_ISREG(found.st_mode):
            raise UserError(
                f"{path}: others may read it or it is not yours; remove it, and deepmill down and up make a new one"
            )
        return handle.read()
