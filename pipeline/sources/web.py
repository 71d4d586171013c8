"""Pages from WARC files, and text from WET files.

The records are cut apart here, by their lengths, for FastWARC ends in silence where a file breaks off; each whole
record then goes through FastWARC for its HTTP headers and encodings, and through Resiliparse for its text. Status and
type are those of the HTTP headers: crawlers leave out WARC's own note of the type, or guess it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from infra.storage import ExternalFile
from pipeline.documents import Document
from pipeline.sections import WebSource
from pipeline.sources.stream import CHUNK, Damaged, Found, open_stream, tidy

__all__ = ["read", "records"]

LINE = 1 << 16
"""Most bytes of a header line."""
Headers = dict[str, str]
"""By name in lower case."""


def read(source: WebSource, file: ExternalFile, limit: int) -> Iterator[Found]:
    """The pages of `file`, those larger than `limit` bytes rejected.

    Raises:
        Damaged: the file breaks off, or is no WARC file.
    """
    with open_stream(file) as stream:
        for headers, raw in records(stream, limit):
            kind = headers.get("warc-type", "")
            if kind in ("response", "resource", "conversion"):
                url = headers.get("warc-target-uri", "").strip("<>")  # wget writes the brackets of the first standard
                document = Document(text="", id="", metadata={"url": url})
                if date := headers.get("warc-date"):
                    document.metadata["date"] = date
                yield document, "too_large" if raw is None else _fill(document, kind, headers, raw, source, limit)


def records(stream: IO[bytes], limit: int) -> Iterator[tuple[Headers, bytes | None]]:
    """Each record of a WARC file: its headers, and its bytes from `WARC/1.0` on, None if more than `limit`.

    Raises:
        Damaged: a record is malformed or breaks off.
    """
    number = 0
    while line := stream.readline(LINE):
        if not line.strip():  # the two empty lines after a record
            continue
        number += 1
        place = f"record {number}"
        if not line.startswith(b"WARC/"):
            problem = "truncated" if not line.endswith(b"\n") and b"WARC/".startswith(line) else "no WARC record here"
            raise Damaged(place, problem)
        lines = [line]
        while lines[-1].strip():
            lines.append(stream.readline(LINE))
            if not lines[-1].endswith(b"\n"):
                raise Damaged(place, "a header line is too long" if len(lines[-1]) == LINE else "truncated headers")
        headers = _headers(lines[1:-1])
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            raise Damaged(place, f"the header Content-Length is {length or 'missing'!r}")
        if int(length) > limit:
            _skip(stream, int(length), place)
            yield headers, None
            continue
        block = stream.read(int(length))
        if len(block) < int(length):
            raise Damaged(place, f"truncated: {len(block)} of {length} bytes are there")
        yield headers, b"".join([*lines, block, b"\r\n\r\n"])


def _headers(lines: list[bytes]) -> Headers:
    headers: Headers = {}
    name = ""
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text[:1].isspace() and name:
            headers[name] += " " + text.strip()
        else:
            name, _, value = text.partition(":")
            name = name.strip().lower()
            headers[name] = value.strip()
    return headers


def _skip(stream: IO[bytes], length: int, place: str) -> None:
    left = length
    while left:
        part = len(stream.read(min(left, CHUNK)))
        if not part:
            raise Damaged(place, f"truncated: {length - left} of {length} bytes are there")
        left -= part


def _fill(document: Document, kind: str, headers: Headers, raw: bytes, source: WebSource, limit: int) -> str | None:
    """Give `document` its text; the rule that rejects it, or None."""
    media_type, charset = _media_type(headers.get("content-type", ""))
    try:
        if kind == "response" and media_type == "application/http":
            record = _parse(raw)
            if record.http_headers is None or record.http_headers.status_code is None:
                return "failure/http"
            status = record.http_headers.status_code
            if status not in source.statuses:
                return f"status/{status}"
            media_type, charset = record.http_content_type or "", record.http_charset
            body = record.reader.read(limit + 1)
        elif kind == "response":
            return "not_http"
        else:
            body = raw[raw.index(b"\r\n\r\n") + 4 : -4] if b"\r\n\r\n" in raw else b""
            if kind == "conversion":
                charset = charset or "utf-8"
        document.metadata["type"] = media_type
        if kind != "conversion" and media_type.lower() not in source.types:
            return "type"
        if len(body) > limit:
            return "too_large"
    except (OSError, ValueError) as error:
        document.metadata["failure"] = str(error)
        return "failure/http"
    try:
        text = _decode(body, charset)
        if kind != "conversion" and media_type.lower() != "text/plain":
            text = _extract(text, document, source)
        document.text = tidy(text)
    except Exception as error:  # whatever a page of the open web brings the extractor to
        document.metadata["failure"] = f"{type(error).__name__}: {error}"
        return "failure/text"
    return None if len(document.text) >= source.min_characters else "too_short"


def _media_type(value: str) -> tuple[str, str | None]:
    """`text/html; charset=utf-8` as type and charset."""
    media_type, _, parameters = value.partition(";")
    _, _, charset = parameters.partition("charset=")
    return media_type.strip().lower(), charset.partition(";")[0].strip(" \"'") or None


def _parse(raw: bytes) -> Any:
    """A FastWARC record whose reader gives the decoded body.

    Raises:
        OSError: there are no HTTP headers.
    """
    from fastwarc.warc import WarcRecord

    record = WarcRecord.from_bytes(raw)
    try:
        record.parse_http(auto_decode="all")
        record.freeze()  # decodes, and so finds out
        return record
    except OSError:
        # Many crawlers store the decoded body under the headers of the encoded one.
        record = WarcRecord.from_bytes(raw)
        record.parse_http(auto_decode="none")
        return record


def _decode(body: bytes, charset: str | None) -> str:
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    name = map_encoding_to_html5(charset, fallback_utf8=False) if charset else None
    return str(bytes_to_str(body, name or detect_encoding(body, from_html_meta=True) or "utf-8"))


def _extract(html: str, document: Document, source: WebSource) -> str:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    if title := " ".join((tree.title or "").split()):
        document.metadata["title"] = title
    return str(extract_plain_text(tree, main_content=source.main_content))
