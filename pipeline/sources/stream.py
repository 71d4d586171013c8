"""Bytes of a raw file as its reader wants them: decompressed, counted, and never silently cut short.

gzip and bzip2 are known by their first bytes, and may have any number of members. The libraries in between each have a
case in which a file that breaks off looks like one that ends, so the ends are checked here.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import re
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

from infra import events
from infra.storage import ExternalFile, open_file
from pipeline.documents import Document

__all__ = ["Damaged", "Found", "open_stream", "tidy"]

CHUNK = 1 << 20

Found = tuple[Document, str | None]
"""What a reader yields: a document, and the rule that rejects it or None. `failure/...` says it could not be read."""


class Damaged(Exception):  # noqa: N818  (the state of a file, raised where reading it ends)
    """A file cannot be read on. `place` says where in it, `problem` what is wrong; neither names the file."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the manners of bz2's: it keeps the input that it has not used."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


_DECODERS: dict[bytes, tuple[str, Callable[[], _Decoder]]] = {
    b"\x1f\x8b": ("gzip", _Gzip),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
}
_UNKNOWN = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip"}


class _Stream(io.RawIOBase):
    """Decompressed bytes of a file. Reports the raw bytes as progress."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._used = 0
        self._input = self._next()
        for magic, name in _UNKNOWN.items():
            if self._input.startswith(magic):
                raise Damaged("byte 0", f"{name} is not read here; decompress it, or compress it with gzip or bzip2")
        found = [kind for magic, kind in _DECODERS.items() if self._input.startswith(magic)]
        self._name = found[0][0] if found else ""
        self._new: Callable[[], _Decoder] | None = found[0][1] if found else None
        self._decoder: _Decoder | None = None

    def readable(self) -> bool:
        return True

    def _next(self) -> bytes:
        data = self._raw.read(CHUNK)
        self._used += len(data)
        events.advance(len(data))
        return data

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        if self._new is None:
            data, self._input = self._input or self._next(), b""
            data, self._input = data[:size], data[size:]
            return data
        while True:
            if self._decoder is None:
                self._input = self._input.lstrip(b"\0") or self._next()  # tapes are padded with zeros
                if not self._input:
                    return b""
                if not self._input.strip(b"\0"):
                    continue
                self._decoder = self._new()
            given, self._input = self._input, b""
            try:
                data = self._decoder.decompress(given, size)
                if not data and not self._decoder.eof:
                    given = self._next()
                    data = self._decoder.decompress(given, size)
                    if not given and not data:
                        raise Damaged(f"byte {self._used}", f"truncated: the {self._name} data breaks off")
            except (zlib.error, OSError) as error:
                raise Damaged(f"before byte {self._used}", f"corrupt {self._name} data ({error})") from None
            if self._decoder.eof:
                self._input, self._decoder = self._decoder.unused_data, None
            if data:
                return data


@contextlib.contextmanager
def open_stream(file: ExternalFile) -> Iterator[IO[bytes]]:
    """The decompressed bytes of `file`.

    Raises:
        Damaged: while reading, where the compressed data is corrupt or breaks off.
    """
    with open_file(file) as raw, io.BufferedReader(_Stream(raw), CHUNK) as stream:
        yield stream


_TRAILING = re.compile(r"[^\S\n]+$", re.MULTILINE)
_GAPS = re.compile(r"\n{3,}")


def tidy(text: str) -> str:
    """Without white space at the ends of lines and of the text, and with at most one empty line in a row."""
    return _GAPS.sub("\n\n", _TRAILING.sub("", text.replace("\r\n", "\n"))).strip()
