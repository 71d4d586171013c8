"""Pages from WARC files, and text from WET files.

The records are cut apart here, by their lengths, for FastWARC ends in silence where a file breaks off; each whole
record then goes through FastWARC for its HTTP headers and encodings, and through Resiliparse for its text. Status and
type are those of the HTTP headers: crawlers leave out WARC's own note of the type, or guess it.

A record that cannot be read costs itself: reading goes on with the next member of a compressed file, or with the next
line of a plain one that begins a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from infra.storage import ExternalFile
from pipeline.sections import WebSource
from pipeline.sources.charset import NotText, decode
from pipeline.sources.html import TooDeep, prepare, text_of
from pipeline.sources.parts import split
from pipeline.sources.stream import Damaged, Found, Limits, Part, Stream, open_stream, tidy
from pipeline.tasks.documents import Document
from pipeline.tasks.guard import Extracted, Job, guarded

__all__ = ["parts", "read", "records"]

LINE = 1 << 16
"""Most bytes of a header line."""
MOST_LINES = 1000
"""Most of these in a record."""
HEADERS = 1 << 20
"""Most bytes of them together."""
MAGIC = b"WARC/"
NEXT = re.compile(rb"(?:\A|(?<=\n))WARC/1\.")
Headers = dict[str, str]
"""By name in lower case."""


def parts(source: WebSource, file: ExternalFile, size: int) -> list[Part]:
    """`file` in parts of about `size` bytes."""
    return split(file, size, MAGIC, hop=True)


def read(source: WebSource, part: Part, limits: Limits) -> Iterator[Found]:
    """The pages of `part`, those larger than `limits.bytes` rejected.

    Raises:
        Damaged: the file breaks off, or is no WARC file.
    """
    prepare()
    with open_stream(part, MAGIC) as stream:
        yield from guarded(_extract, _jobs(source, stream, limits), limits.seconds)


def _jobs(source: WebSource, stream: Stream, limits: Limits) -> Iterator[Job]:
    found = records(stream, limits.bytes)
    while True:
        try:
            for headers, raw in found:
                kind = headers.get("warc-type", "")
                if kind not in ("response", "resource", "conversion"):
                    continue
                url = headers.get("warc-target-uri", "").strip("<>")  # wget writes the brackets of the first standard
                metadata = {"url": url} | {
                    name: headers[header]
                    for name, header in (("date", "warc-date"), ("languages", "warc-identified-content-language"))
                    if headers.get(header)
                }
                document = Document(text="", id="", metadata=metadata)
                if raw is None:
                    yield document, None, "too_large"
                else:
                    yield document, (source, kind, headers, raw, limits.bytes), None
            return
        except Damaged as damage:
            if not (stream.resync() if stream.codec else stream.skip_to(NEXT)):
                raise
            yield Document(text="", id="", metadata={"url": "", "failure": str(damage)}), None, "failure/damaged"
            found = records(stream, limits.bytes)


def records(stream: Stream, limit: int) -> Iterator[tuple[Headers, bytes | None]]:
    """Each record of a WARC file: its headers, and its bytes from `WARC/1.0` on, None if more than `limit`.

    Raises:
        Damaged: a record is malformed or breaks off.
    """
    number = 0
    while stream.mine():
        before = stream.before
        line = stream.readline(LINE)
        if not line.strip():  # the two empty lines after a record
            continue
        number += 1
        place = f"record {number}"
        if not line.startswith(MAGIC):
            problem = "truncated" if not line.endswith(b"\n") and MAGIC.startswith(line) else "no WARC record here"
            raise Damaged(place, problem)
        lines, size = [line], len(line)
        while lines[-1].strip():
            lines.append(stream.readline(LINE))
            size += len(lines[-1])
            if not lines[-1].endswith(b"\n"):
                raise Damaged(place, "a header line is too long" if len(lines[-1]) == LINE else "truncated headers")
            if len(lines) > MOST_LINES or size > HEADERS:
                raise Damaged(place, "its headers have no end")
        headers = _headers(lines[1:-1])
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            raise Damaged(place, f"the header Content-Length is {length or 'missing'!r}")
        if before or int(length) > limit:
            there = stream.skip(int(length))
            block = None
        else:
            block = stream.read(int(length))
            there = len(block)
        if there < int(length):
            raise Damaged(place, f"truncated: {there} of {length} bytes are there")
        if not before:
            yield headers, None if block is None else b"".join([*lines, block, b"\r\n\r\n"])


def _headers(lines: list[bytes]) -> Headers:
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text[:1].isspace() and name:
            found[name].append(text.strip())
        else:
            name, _, value = text.partition(":")
            name = name.strip().lower()
            found[name] = [value.strip()]
    return {name: " ".join(values) for name, values in found.items()}


def _extract(payload: tuple[WebSource, str, Headers, bytes, int]) -> Extracted:
    """The text of a record, further metadata, and the rule that rejects it or None."""
    source, kind, headers, raw, limit = payload
    media_type, charset = _media_type(headers.get("content-type", ""))
    metadata: dict[str, Any] = {}
    try:
        if kind == "response" and media_type == "application/http":
            http, body = _parse(raw, limit)
            if http is None or http.status_code is None:
                return "", {}, "failure/http"
            if http.status_code not in source.statuses:
                return "", {}, f"status/{http.status_code}"
            media_type, charset = _media_type(http.get("Content-Type") or "")
        elif kind == "response":
            return "", {}, "not_http"
        else:
            body = raw[raw.index(b"\r\n\r\n") + 4 : -4] if b"\r\n\r\n" in raw else b""
            charset = charset or ("utf-8" if kind == "conversion" else None)
    except (OSError, ValueError) as error:
        return "", {"failure": str(error)}, "failure/http"
    metadata["type"] = media_type
    if kind != "conversion" and media_type not in source.types:
        return "", metadata, "type"
    if len(body) > limit:
        return "", metadata, "too_large"
    is_html = kind != "conversion" and media_type != "text/plain"
    try:
        text, charset = decode(body, charset, html=is_html)
        if charset != "utf-8":
            metadata["charset"] = charset
        if is_html:
            title, text = text_of(text, main_content=source.main_content, xhtml="xhtml" in media_type)
            if title:
                metadata["title"] = title
    except (NotText, TooDeep) as finding:
        rule = "failure/encoding" if isinstance(finding, NotText) else "failure/nested"
        return "", metadata | {"failure": str(finding)}, rule
    text = text if is_html else tidy(text)
    return text, metadata, None if len(text) >= source.min_characters else "too_short"


def _media_type(value: str) -> tuple[str, str | None]:
    """`text/html; charset=utf-8` as type and charset."""
    media_type, _, parameters = value.partition(";")
    _, _, charset = parameters.lower().partition("charset=")
    return media_type.strip().lower(), charset.partition(";")[0].strip(" \"'") or None


def _parse(raw: bytes, limit: int) -> tuple[Any, bytes]:
    """The HTTP headers, and the decoded body or the first bytes of it, one more than `limit`.

    Raises:
        OSError: there are no HTTP headers.
    """
    from fastwarc.warc import WarcRecord

    record = WarcRecord.from_bytes(raw)
    try:
        record.parse_http(auto_decode="all")
        body = record.reader.read(limit + 1)
    except OSError:
        # Many crawlers store the decoded body under the headers of the encoded one.
        record = WarcRecord.from_bytes(raw)
        record.parse_http(auto_decode="none")
        body = record.reader.read(limit + 1)
    return record.http_headers, body
