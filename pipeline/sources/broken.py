"""What libraries raise at bytes that are no file of their format, told from errors of the disk and the network."""

from __future__ import annotations

import errno
import lzma
import struct
import tarfile
import zipfile
import zlib

__all__ = ["ARCHIVE_ERRORS", "is_of_the_file"]

ARCHIVE_ERRORS = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, KeyError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError, OSError),
)
"""Of the readers of archives; an OSError is to be asked whether it is of the file."""


def is_of_the_file(error: Exception) -> bool:
    """Whether the bytes of a file brought a library to this error, and not the disk or the network."""
    return not isinstance(error, OSError) or error.errno in (None, errno.EINVAL)  # sought before the first byte
