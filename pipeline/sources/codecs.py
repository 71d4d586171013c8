"""Compressed files by their first bytes: gzip, bzip2, xz and Zstandard, all with the manners of `bz2.BZ2Decompressor`.

A compressed file is a row of members, each readable by itself. Crawls have a member per record, Wikipedia's dumps one
per hundred pages, parallel compressors one per megabyte; other writers make a single one. `find_member` finds the next
that is whole, which is how a file can be read from the middle, and how reading goes on after one that is corrupt.
"""

from __future__ import annotations

import bz2
import dataclasses
import functools
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Protocol

from backports import zstd

__all__ = [
    "CHUNK",
    "CODECS",
    "DECODER_ERRORS",
    "Codec",
    "Decoder",
    "Inflate",
    "codec_of",
    "find_member",
    "first_member",
    "recognise",
]

CHUNK = 1 << 20
"""Bytes asked of a file at once."""
PROBE = 8 << 20
"""Compressed bytes after which a member counts as one that has no near end."""
PROBE_DECODED = 64 << 20
"""Decoded bytes after which it does so too: of these a bomb has more than any number of compressed ones."""
MOST_PROBES = 64
"""Members that are tried before none counts as whole; each try may take the whole of both."""
FIRST_WINDOW = 1 << 14
"""Bytes first looked through for a member: where many are corrupt, the next one is near."""
_LONGEST_MAGIC = 10
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""How a frame of Zstandard begins that decoders skip."""
_DICTIONARY = b"\x5d\x2a\x4d\x18"
_TRAINED = b"\x37\xa4\x30\xec"
"""How a dictionary begins that is more than its content."""
MOST_DICTIONARY = 16 << 20
_XZ_MEMORY = 256 << 20
"""Bytes a dictionary may ask for; `xz -9` asks for 65 MiB."""

DECODER_ERRORS = (zlib.error, OSError, lzma.LZMAError, zstd.ZstdError, EOFError)


class Decoder(Protocol):
    """Decodes one member; what it has not used is its own affair until `eof`, then `unused_data`."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Inflate:
    """zlib's decompressor with the manners of bz2's: it keeps the input that it has not used.

    `wbits` says what is around the data: 31 gzip's header, 15 zlib's, -15 nothing.
    """

    def __init__(self, wbits: int = 31) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


@dataclass(frozen=True)
class Codec:
    """A kind of compression."""

    name: str
    magic: bytes
    """How a file of it begins."""
    member: re.Pattern[bytes]
    """How each member begins, as exactly as can be said."""
    new: Callable[[], Decoder]


CODECS = (
    Codec("gzip", b"\x1f\x8b", re.compile(rb"\x1f\x8b\x08[\x00-\x1f]"), Inflate),
    Codec("bzip2", b"BZh", re.compile(rb"BZh[1-9]1AY&SY"), bz2.BZ2Decompressor),
    Codec(
        "xz",
        b"\xfd7zXZ\x00",
        re.compile(rb"\xfd7zXZ\x00"),
        functools.partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
    ),
    Codec("zstd", b"\x28\xb5\x2f\xfd", re.compile(rb"\x28\xb5\x2f\xfd"), zstd.ZstdDecompressor),
)


def codec_of(head: bytes) -> Codec | None:
    """What a file that begins so is compressed with; None when it is not, or in no way known here."""
    if _SKIPPABLE.match(head):
        return CODECS[-1]
    return next((codec for codec in CODECS if head.startswith(codec.magic)), None)


def recognise(raw: IO[bytes]) -> tuple[Codec | None, bytes]:
    """What the file that `raw` is at the beginning of is compressed with, and the bytes read to find out.

    The `.warc.zst` of the Internet Archive begin with the dictionary of all their frames, in a frame that decoders
    skip, and perhaps compressed itself (iipc.github.io/warc-specifications, "Zstandard compression for WARC").

    Raises:
        OSError, zstd.ZstdError: the dictionary is too large, breaks off, or is corrupt.
    """
    head = raw.read(16)
    codec = codec_of(head)
    if not codec or not head.startswith(_DICTIONARY):
        return codec, head
    size = int.from_bytes(head[4:8], "little")
    if size > MOST_DICTIONARY:
        raise OSError(f"a dictionary of {size} bytes, and {MOST_DICTIONARY} are allowed")
    head += raw.read(max(0, size + 8 - len(head)))
    content = head[8 : size + 8]
    if len(content) < size:
        raise OSError("the dictionary breaks off")
    if content.startswith(codec.magic):
        decoder = zstd.ZstdDecompressor()
        content = decoder.decompress(content, MOST_DICTIONARY)
        if not decoder.eof:
            raise OSError(f"the dictionary breaks off, or has more than {MOST_DICTIONARY} bytes")
    words = zstd.ZstdDict(content, is_raw=not content.startswith(_TRAINED))
    return dataclasses.replace(codec, new=functools.partial(zstd.ZstdDecompressor, zstd_dict=words)), head


def first_member(raw: IO[bytes], codec: Codec, at: int = 0, signature: bytes = b"") -> tuple[bool, int | None]:
    """Whether a member begins at byte `at`, its content with `signature`; and the byte after it if that is near."""
    raw.seek(at)
    decoder, head, used, data, decoded = codec.new(), b"", 0, b"", 0
    try:
        while not decoder.eof:
            out, data = decoder.decompress(data, CHUNK), b""
            decoded += len(out)
            if decoded > PROBE_DECODED:
                return True, None
            head += out[: len(signature) - len(head)]
            if not signature.startswith(head):
                return False, None
            if not out and not decoder.eof:
                if used > PROBE:
                    return True, None
                data = raw.read(CHUNK)
                used += len(data)
                if not data:
                    return False, None  # breaks off
    except DECODER_ERRORS:
        return False, None
    return head == signature, at + used - len(decoder.unused_data)


def find_member(
    raw: IO[bytes], codec: Codec, start: int, until: int | None = None, signature: bytes = b""
) -> int | None:
    """The first byte from `start` on (and before `until`) at which a whole member begins; None if there is none.

    A whole member may also lie inside another, as the file that a crawled page was; whoever splits a file must check
    that the member before ends where the found one begins.
    """
    window, at, size, probes = b"", start, FIRST_WINDOW, 0
    while until is None or at < until:
        raw.seek(at + len(window))
        data = raw.read(size)
        size = min(2 * size, CHUNK)
        window += data
        for match in codec.member.finditer(window):
            place = at + match.start()
            if until is not None and place >= until:
                return None
            if first_member(raw, codec, place, signature)[0]:
                return place
            if (probes := probes + 1) > MOST_PROBES:
                return None
        if not data:
            return None
        kept = min(len(window), _LONGEST_MAGIC - 1)
        at, window = at + len(window) - kept, window[len(window) - kept :]
    return None
