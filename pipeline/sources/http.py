"""HTTP responses as crawlers store them: line ends of either kind, codings that are not what the headers say.

Servers and crawlers err, so a body is looked at before it is decoded (RFC 9110, RFC 9112): many crawlers store the
decoded body under the headers of the encoded one. One that breaks off, or is corrupt from some byte on, gives what
stands before that.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import brotli
from backports import zstd

from pipeline.sources.codecs import Decoder, Inflate
from pipeline.sources.whatwg import name_of

__all__ = ["Fields", "NotHttp", "Response", "fields_of", "media_type_of", "response_of"]

Fields = dict[str, list[str]]
"""Values of header fields by their name in lower case, folded lines joined."""
MOST_CODINGS = 8
MOST_INTERIM = 8
"""Responses before the one that counts (100 Continue, 103 Early Hints, a proxy's CONNECT)."""
SLICE = 1 << 12
"""Bytes given to a decoder at once; what stands in them before a corrupt byte is lost."""
MOST_BYTEWISE = 1 << 20
"""Bytes of a corrupt body that is decoded anew byte by byte, so that nothing is lost."""
LOOKED_AT = 256

_STATUS = re.compile(rb"\s*HTTP/\d{1,2}(?:\.\d{1,2})?[ \t]+(\d{3})(?!\d)([^\r\n]*)", re.IGNORECASE)
_FOLD = re.compile(rb"\r?\n[ \t]+")
_END = re.compile(rb"\n\r?\n")
_CHUNK = re.compile(rb"[ \t]*0*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CHARSET = re.compile(r"[;,\s]charset\s*=\s*[\"']?([^\s\"';,]+)", re.IGNORECASE)


class NotHttp(ValueError):  # noqa: N818  (a finding about the record)
    """A record is no HTTP response, or its body cannot be decoded."""


@dataclass(frozen=True)
class Response:
    """A response, its body as it was sent."""

    status: int
    fields: Fields
    raw: bytes

    def body(self, limit: int) -> bytes:
        """The decoded body, or the first bytes of it, one more than `limit`.

        Raises:
            NotHttp: its coding is none that is read here, or it is corrupt from the beginning.
        """
        transfer = _tokens(self.fields, "transfer-encoding")
        body = _unchunked(self.raw) if "chunked" in transfer else self.raw
        codings = [each for each in _tokens(self.fields, "content-encoding") + transfer if each != "chunked"]
        if len(codings) > MOST_CODINGS:
            raise NotHttp(f"{len(codings)} codings, one upon another")
        for coding in reversed(codings or [""]):
            body = _decoded(body, coding, limit)
        if body.startswith(_GZIP) and len(body) <= limit:  # packed by the application, and once more by its server
            body = _decoded(body, "", limit)
        return body


def response_of(block: bytes) -> Response:
    """The response that a record holds.

    Raises:
        NotHttp: it has no status line.
    """
    status = _STATUS.match(block)
    for _ in range(MOST_INTERIM):
        if not status:
            raise NotHttp(f"no status line of HTTP, but {block[:40]!r}")
        end = _END.search(block, status.end())
        head, body = (block[status.end() : end.start()], block[end.end() :]) if end else (block[status.end() :], b"")
        following = _STATUS.match(body)
        if not following or not (status[1].startswith(b"1") or b"connection established" in status[2].lower()):
            return Response(int(status[1]), fields_of(head.partition(b"\n")[2]), body)
        status, block = following, body
    raise NotHttp(f"more than {MOST_INTERIM} interim responses")


def fields_of(head: bytes) -> Fields:
    """Header fields, of HTTP and of WARC, from the lines of them."""
    if b"\n " in head or b"\n\t" in head:
        head = _FOLD.sub(b" ", head)
    fields: Fields = {}
    for line in head.decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), []).append(value.strip())
    fields.pop("", None)
    return fields


def media_type_of(value: str) -> tuple[str, str | None]:
    """`text/html; charset=utf-8` as type and label of the charset."""
    found = _CHARSET.search(value)
    return re.split(r"[;,\s]", value.strip(), maxsplit=1)[0].lower(), found[1] if found else None


def _tokens(fields: Fields, name: str) -> list[str]:
    tokens = (each.strip().lower() for each in ",".join(fields.get(name, [])).split(","))
    return [each for each in tokens if each]


def _unchunked(body: bytes) -> bytes:
    """A body sent in chunks, as far as it goes; one that is not in chunks as it is."""
    parts: list[bytes] = []
    at = 0
    while chunk := _CHUNK.match(body, at):
        begin, size = chunk.end(), int(chunk[1], 16)
        at = begin + size
        if not parts and body[at : at + 1] not in (b"\r", b"\n", b""):
            return body  # the first line only looks like a size
        parts.append(body[begin:at])
        if not size:
            break
        at += 2 if body[at : at + 2] == b"\r\n" else 1
    return b"".join(parts) if parts else body


# Codings. What comes after a coded body is left out.


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return bool(self._inner.is_finished())

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return bytes(self._inner.process(data, output_buffer_limit=max_length))


_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_NO_CODINGS = ("identity", "none", "null", "binary", "7bit", "8bit", "plain", "text")
"""What is found in the place of a coding and is none; names of charsets are there as well."""
_ERRORS = (zlib.error, zstd.ZstdError, brotli.error)


def _decoded(body: bytes, coding: str, limit: int) -> bytes:
    if body.startswith(_GZIP):
        return _run(lambda: Inflate(31), body, limit, _GZIP)
    if body.startswith(_ZSTD):
        return _run(zstd.ZstdDecompressor, body, limit, _ZSTD)
    wrapped = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0  # zlib's format
    if _is_plain(body):
        return body
    if not coding or coding in _NO_CODINGS or name_of(coding):
        return _undeclared(body, limit) if wrapped else body
    if coding in ("br", "x-br", "brotli"):
        return _run(_Brotli, body, limit)
    if coding in ("deflate", "x-deflate", "gzip", "x-gzip"):
        try:
            return _run(lambda: Inflate(15 if wrapped else -15), body, limit)  # with a head of zlib's, or the bare one
        except NotHttp:
            return _run(_Brotli, body, limit)
    raise NotHttp(f"the content coding {coding[:40]!r} is not read here")


def _undeclared(body: bytes, limit: int) -> bytes:
    """What begins like zlib's format and was declared to be nothing."""
    try:
        return _run(lambda: Inflate(15), body, limit)
    except NotHttp:
        return body


def _is_plain(body: bytes) -> bool:
    """Whether it is text already: no coding leaves hundreds of bytes without a control character."""
    return not _CONTROL.search(body, 0, LOOKED_AT) or body.startswith(_MARKS)


def _run(new: Callable[[], Decoder], body: bytes, limit: int, magic: bytes = b"", step: int = SLICE) -> bytes:
    """What the decoder makes of `body`, up to `limit` + 1 bytes; further members begin with `magic`."""
    out, at = bytearray(), 0
    try:
        while True:
            at = _member(new(), body, at, limit, out, step)
            if len(out) > limit or not magic or not body.startswith(magic, at):
                break
    except _ERRORS as error:
        if step > 1 and len(body) <= MOST_BYTEWISE:
            return _run(new, body, limit, magic, step=1)
        if not out:
            raise NotHttp(f"the body is corrupt ({error})") from None
    return bytes(out[: limit + 1])


def _member(decoder: Decoder, body: bytes, at: int, limit: int, out: bytearray, step: int) -> int:
    """Decode the member that begins at byte `at` into `out`; the byte after it."""
    while len(out) <= limit and not decoder.eof:
        piece = body[at : at + step]
        at += len(piece)
        found = decoder.decompress(piece, limit + 1 - len(out))
        if not piece and not found:
            break
        out += found
    return at - len(decoder.unused_data)
