"""Files by what they begin with, so that one of another kind is named for what it is: the one list of it.

A file that is whole and not read here needs no fetching again, which is the remedy for damage.
"""

from __future__ import annotations

import re
from pathlib import Path

from infra.errors import UserError

__all__ = ["EMPTY", "SAVED_PAGE", "content_of", "document_of", "file_of", "unreadable"]

_UNPACK = "unpack it"
_TEXT = "make plain text of it first"
_NOT_TEXT = "leave it out of paths"
_EXPORT = "export its texts as JSON Lines"
EMPTY = ("an empty file", "get it again, or leave it out of paths")
SAVED_PAGE = ("a page of HTML or XML", "get the file itself: a server's error may have been saved in its place")
"""Where a file of data was expected."""
_FILES: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"PK\x05\x06", "an empty zip archive", _NOT_TEXT),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (b"MSCF\0\0\0\0", "a cabinet archive", _UNPACK),
    (b"xar!\0", "a xar archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK),
    (b"\x02\x21\x4c\x18", "compressed with lz4", _UNPACK),
    (b"LZIP\x01", "compressed with lzip", _UNPACK),
    (b"\x89LZO\0\r\n\x1a\n", "compressed with lzop", _UNPACK),
    (b"\x1f\x9d", "compressed with compress", _UNPACK),
    (b"\x5d\0\0", "compressed with lzma", _UNPACK),
    (b"\xff\x06\0\0sNaPpY", "compressed with snappy", _UNPACK),
    (b"PAR1\x15", "a Parquet file", "read it as kind: parquet"),
    (b"ARROW1\0\0", "an Arrow file", "read it as kind: dataset"),
    (b"FEA1", "a Feather file of the first version", "convert it to Parquet"),
    (b"Obj\x01", "an Avro file", "convert it to Parquet"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "convert it to Parquet"),
    (b"\x93NUMPY", "a NumPy file", _NOT_TEXT),
    (b"version https://", "a pointer of Git LFS", "fetch the file itself (git lfs pull)"),
    (b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (b"\x80\x02", "a Python pickle", _EXPORT),
    (b"\x80\x03", "a Python pickle", _EXPORT),
    (b"\x80\x04", "a Python pickle", _EXPORT),
    (b"\x80\x05", "a Python pickle", _EXPORT),
    (b"bplist00", "a property list of Apple's (a web archive, perhaps)", _TEXT),
    (b"ZIM\x04", "a ZIM file", "use the dump of that wiki, or a crawl"),
)
"""How a file begins, what it is, and what to do: archives and tables, of which no reader of bytes makes anything."""
_DOCUMENTS: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF-", "a PDF file", _TEXT),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Microsoft Office file", _TEXT),
    (b"AT&TFORM", "a DjVu file", _TEXT),
    (b"\x7fELF", "a program", _NOT_TEXT),
    (b"\x89PNG\r\n\x1a\n", "a picture", _NOT_TEXT),
    (b"\xff\xd8\xff", "a picture", _NOT_TEXT),
    (b"GIF87a", "a picture", _NOT_TEXT),
    (b"GIF89a", "a picture", _NOT_TEXT),
)
"""The same of files of which a reader of books or code rejects the one and reads on."""

_CONTENTS: tuple[tuple[re.Pattern[bytes], str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), what, remedy)
    for pattern, what, remedy in (
        (rb"\x1f\x8b\x08", "compressed with gzip twice", "unpack it once"),
        (rb"filedesc://", "an ARC file, older than WARC", "convert it: warcio recompress OLD.arc.gz NEW.warc.gz"),
        (rb".{257}ustar", "a tar archive", _UNPACK),
        (rb" ?CDX [A-Za-z] ", "a CDX index of a crawl, which holds no pages", _NOT_TEXT),
        (rb"\S+ \d{14} \{", "a CDXJ index of a crawl, which holds no pages", _NOT_TEXT),
        (rb"\S+\)\S* \d{14}[ \t]", "a CDX index of a crawl, which holds no pages", _NOT_TEXT),
        (rb"\S+ \d{14}\t\S+\t\d+\t\d+", "a CDX index of a crawl, which holds no pages", _NOT_TEXT),
        (rb"[0-9a-f]{32,128} [ *]\S", "a list of checksums", _NOT_TEXT),
        (rb"(?:md5|sha\d+|blake2b) ?\(", "a list of checksums", _NOT_TEXT),
        (rb"\S+\.(?:warc|wet|wat|arc)(?:\.gz|\.zst)?\r?\n", "a list of files", "fetch the files that it names"),
        (rb"\xef?\xbb?\xbf?\s*(?:<!doctype html|<html)", "an HTML page", "save crawls as WARC (wget --warc-file)"),
        (rb"\xef?\xbb?\xbf?\s*<mediawiki", "a dump of MediaWiki", "read it as kind: wiki"),
        (
            rb"\xef?\xbb?\xbf?\s*(?:\{\s*(?:\"|\Z)|\[\s*(?:\{|\"|\Z))",
            "a file of JSON",
            "read it as kind: jsonl, if it holds texts",
        ),
        (rb"\xef?\xbb?\xbf?\s*<\?xml\b", "an XML file", _NOT_TEXT),
        (rb"https?://[^\s,;]+\s", "a list of addresses", "fetch what it names (wget --warc-file)"),
        (rb"From: <?Saved by|MIME-Version: 1", "a page saved as MHTML", "save crawls as WARC (wget --warc-file)"),
        (rb"From \S+@\S+ ", "a mailbox", _TEXT),
        (rb"\xd4\xc3\xb2\xa1|\xa1\xb2\xc3\xd4|\x0a\x0d\x0d\x0a", "a capture of network packets", _NOT_TEXT),
    )
)
"""How the decompressed content begins of what lies about where crawls are kept."""


def file_of(head: bytes, name: str = "") -> tuple[str, str] | None:
    """What a file is that begins so and that nothing here reads byte by byte, and what to do; None for any other.

    Sixteen bytes of it tell.
    """
    if head.startswith(b"PK\x03\x04") and name.lower().endswith(".wacz"):
        return "a WACZ package", "unpack it, and name the WARC files in its folder archive/"
    return _told(_FILES, head)


def _told(table: tuple[tuple[bytes, str, str], ...], head: bytes) -> tuple[str, str] | None:
    return next(((what, remedy) for magic, what, remedy in table if head.startswith(magic)), None)


def unreadable(file: Path, error: Exception) -> UserError:
    """Names a model's file that could not be read, for what it is where its beginning tells."""
    try:
        with file.open("rb") as handle:
            head = handle.read(16)
    except OSError as refused:
        return UserError(f"{file}: cannot be read ({refused.strerror}); see that it may be")
    told = file_of(head) if head else EMPTY
    what, remedy = told or (f"cannot be read ({error})", "")
    return UserError(f"{file}: {what}; {remedy if 'git lfs' in remedy else 'copy it again'}")


def document_of(head: bytes) -> tuple[str, str] | None:
    """What a file is that begins so and is no text, and what to do; None for any other."""
    return file_of(head) or _told(_DOCUMENTS, head)


def content_of(head: bytes) -> tuple[str, str] | None:
    """What the content of a file is, plain or decompressed, that begins so where a crawl was expected."""
    told = document_of(head)
    return told or next(((what, remedy) for mark, what, remedy in _CONTENTS if mark.match(head)), None)
