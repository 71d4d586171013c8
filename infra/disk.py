"""What a file system says when it takes no more, as one line with the remedy, however a library wraps it."""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

__all__ = ["disk_problem", "is_full"]

FULL = "the disk is full; free space and run the same command: finished stages are kept"
REMEDIES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL.replace("the disk", "your share of the disk (quota)"),
    errno.EFBIG: "larger than a file may be here (ulimit -f, or the file system); raise that and run the same command",
    errno.EROFS: "the file system is read-only; make it writable or choose another folder with --root",
    errno.EIO: "the disk cannot read or write it (input/output error); look at the disk, or choose another folder "
    "with --root",
}
FORBIDDEN = (errno.EACCES, errno.EPERM)
WRAPPED = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)} | {
    "database or disk is full": errno.ENOSPC,  # SQLite's words
    "disk I/O error": errno.EIO,
    "attempt to write a readonly database": errno.EROFS,
}
"""What is read in the errors of libraries that keep the system's number to themselves: safetensors, SQLAlchemy."""
SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""All that numpy says of an array that did not fit, in `tofile`, `save`, and the GGUF files written with it."""


def disk_problem(error: BaseException, place: Path | str) -> str | None:
    """One line that names the file and the remedy; None where the file system is not what failed.

    Args:
        place: named where the error does not say which file it was.
    """
    if isinstance(error, OSError) and error.errno in FORBIDDEN and error.filename:
        told = f"{error.strerror}; see that it may be read and written, or choose another folder with --root"
        return f"{os.fsdecode(error.filename)}: {told}"
    for each in _causes(error):
        if (number := _number(each)) in REMEDIES:
            # Of a copy the first name is what was read.
            name = getattr(each, "filename2", None) or getattr(each, "filename", None) or place
            return f"{os.fsdecode(name)}: {REMEDIES[number]}"
    return None


def is_full(error: BaseException) -> bool:
    """Whether there was no room for a file."""
    return any(_number(each) in (errno.ENOSPC, errno.EDQUOT) for each in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__


def _number(error: BaseException) -> int | None:
    """The system's number for it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    if SHORT_WRITE.fullmatch(text):
        no_limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
        return errno.ENOSPC if no_limit else errno.EFBIG
    return next((number for words, number in WRAPPED.items() if words in text), None)
