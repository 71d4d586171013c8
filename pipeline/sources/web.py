"""Pages from WARC files, and text from WET files.

The records are cut apart here, by their lengths, for FastWARC ends in silence where a file breaks off. Status, type and
charset of a page are those of its HTTP headers: crawlers leave out WARC's own note of the type, or guess it. Records
that hold no page (requests, notes of the crawler, its log) are passed over.

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
from pipeline.sources.html import TooDeep, prepare, read_page
from pipeline.sources.http import NotHttp, fields_of, media_type_of, response_of
from pipeline.sources.parts import split
from pipeline.sources.signatures import content_of, document_of
from pipeline.sources.stream import Damaged, Foreign, Found, Limits, Part, Stream, open_stream, tidy
from pipeline.tasks.documents import Document
from pipeline.tasks.guard import Extracted, Job, guarded
from pipeline.tasks.ledger import note_record
from pipeline.tasks.verbatim import note_verbatim

__all__ = ["parts", "read", "records"]

LINE = 1 << 16
"""Most bytes of a header line."""
MOST_LINES = 1000
"""Most of these in a record."""
HEADERS = 1 << 20
"""Most bytes of them together."""
MAGIC = b"WARC/"
LOOKED_AT = 64
"""Bytes behind a record."""
NEXT = re.compile(rb"(?:\A|(?<=\n))WARC/[01]\.")
ENVELOPES = (b'{"Container"', b'{"Envelope"')
"""How the records of a WAT file begin."""
FETCHED = re.compile(r"(?:https?|ftps?|gopher|gemini|file|dat|ipfs):", re.IGNORECASE)
"""Addresses that something can have been fetched from."""
DOMAIN = re.compile(r"https?://[^/?#]*\.([a-z]+)\.?(?::\d*)?(?:[/?#]|$)", re.IGNORECASE)
TEXT, HTML = "text/plain", "text/html"
UNSAID = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,1000}?-->\s*)?<(?:!doctype html|html|head|body)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
"""How a page begins, where a server does not say that it is one, or says that it is plain text."""
WITHIN = re.compile(rb"\n(?=WARC/[01]\.\d+\r?\n(?:WARC|Content)-)", re.IGNORECASE)
"""How a record begins within what another one says is its own."""
FAILURES: dict[type[Exception], str] = {NotHttp: "http", NotText: "encoding", TooDeep: "nested"}
"""What may be found of a record, and the rule that rejects it then, after `failure/`."""
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
            for headers, block in found:
                if not _is_page(headers):
                    _refuse_wat(headers, block)
                    continue
                metadata = {"url": _address(headers)} | {
                    name: headers[header]
                    for name, header in (("date", "warc-date"), ("languages", "warc-identified-content-language"))
                    if headers.get(header)
                }
                document = Document(text="", id="", metadata=metadata)
                if block is None:
                    yield document, None, "too_large"
                else:
                    yield document, (source, headers, block, limits.bytes), None
            return
        except Foreign:
            raise
        except Damaged as damage:
            if not (stream.resync() if stream.codec else stream.skip_to(NEXT)):
                raise
            yield Document(text="", id="", metadata={"url": "", "failure": str(damage)}), None, "failure/damaged"
            found = records(stream, limits.bytes)


def _address(headers: Headers) -> str:
    return headers.get("warc-target-uri", "").strip("<>")  # wget writes the brackets of the first standard


def _is_page(headers: Headers) -> bool:
    """Whether a record holds what was fetched, or text of it: crawlers keep their logs, arguments (with passwords) and
    pictures of pages as resources of schemes that nobody fetches from."""
    kind = _kind(headers)
    return kind in ("response", "conversion") or (kind == "resource" and bool(FETCHED.match(_address(headers))))


def _kind(headers: Headers) -> str:
    return headers.get("warc-type", "").lower()


def _refuse_wat(headers: Headers, block: bytes | None) -> None:
    is_wat = _kind(headers) == "metadata" and "json" in headers.get("content-type", "")
    if is_wat and block and block.startswith(ENVELOPES):
        raise Foreign(
            "a WAT file: it holds metadata of pages, not their text", "use the WARC or WET file of that crawl"
        )


def records(stream: Stream, limit: int) -> Iterator[tuple[Headers, bytes | None]]:
    """Each record of a WARC file: its headers, and its block, None if larger than `limit`.

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
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.startswith(MAGIC):
            if number == 1 and (foreign := content_of(line)):
                raise Foreign(*foreign)
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
        headers = {name: " ".join(values) for name, values in fields_of(b"".join(lines[1:-1])).items()}
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            raise Damaged(place, f"the header Content-Length is {length or 'missing'!r}")
        if before or int(length) > limit:
            there = stream.skip(int(length))
            block = None
        else:
            block = stream.read(int(length))
            there = len(block)
        if block is not None and (begun := _next_within(stream, block, int(length))):
            stream.give_back(block[begun:])
            block, there = block[:begun].rstrip(b"\r\n"), int(length)
        if there < int(length):
            raise Damaged(place, f"truncated: {there} of {length} bytes are there")
        if not before:
            yield headers, block


def _next_within(stream: Stream, block: bytes, length: int) -> int:
    """Where in a block the next record begins, because the length that a header tells is wrong; 0 where it does not.

    A page may be about such files: so the block must also break off, or be followed by no record.
    """
    if not (found := WITHIN.search(block)):
        return 0
    behind = stream.sample(LOOKED_AT)[:LOOKED_AT].lstrip(b"\r\n")
    return found.end() if len(block) < length or (behind and not behind.startswith(MAGIC)) else 0


def _extract(payload: tuple[WebSource, Headers, bytes, int]) -> Extracted:
    """The text of a record, further metadata, and the rule that rejects it or None."""
    metadata: dict[str, Any] = {}
    try:
        text, rule = _text(*payload, metadata)
    except tuple(FAILURES) as finding:
        return "", metadata | {"failure": str(finding)}, f"failure/{FAILURES[type(finding)]}"
    return text, metadata, rule


def _text(
    source: WebSource, headers: Headers, block: bytes, limit: int, metadata: dict[str, Any]
) -> tuple[str, str | None]:
    """The text of a record and the rule that rejects it or None; what else is known of it goes into `metadata`.

    Raises:
        NotHttp, NotText, TooDeep: it cannot be read.
    """
    media_type, label = media_type_of(headers.get("content-type", ""))
    types = source.types
    is_response = _kind(headers) == "response" or media_type == "application/http"
    if is_response:
        if media_type != "application/http" and not block.startswith(b"HTTP/"):
            return "", "not_http"
        response = response_of(block)
        if response.status not in source.statuses:
            return "", f"status/{response.status}"
        media_type, label = media_type_of(response.fields.get("content-type", [""])[-1])
        media_type = media_type or (HTML if UNSAID.match(response.raw) else "")
    elif _kind(headers) == "conversion":  # WET
        media_type, label, types = media_type or TEXT, label or "utf-8", (TEXT, *types)
    metadata["type"] = media_type
    if media_type not in types:
        return "", "type"
    body = response.body(limit) if is_response else block
    if len(body) > limit:
        return "", "too_large"
    if other := document_of(body):
        metadata["type"] = other[0]
        return "", "type"
    if media_type == TEXT and is_response and UNSAID.match(body):
        media_type = HTML
    text = _decoded(source, body, media_type, label, _address(headers), metadata)
    return text, None if len(text) >= source.min_characters else "too_short"


def _decoded(
    source: WebSource, body: bytes, media_type: str, label: str | None, url: str, metadata: dict[str, Any]
) -> str:
    """The text of a body; title, charset and what the record had go into `metadata`."""
    is_html = "html" in media_type or "xml" in media_type
    domain = DOMAIN.match(url)
    page, charset = decode(body, label, html=is_html, tld=domain[1].lower() if domain else "")
    if charset != "utf-8":
        metadata["charset"] = charset
    if is_html:
        read = read_page(page, main_content=source.main_content, xhtml="xhtml" in media_type)
        if read.title:
            metadata["title"] = read.title
        note_record(metadata, len(page), navigation=read.navigation)
        note_verbatim(metadata, read.verbatim)
        return read.text  # not tidied: what is preformatted comes through to the character
    tidied = tidy(page)
    note_record(metadata, len(page), whitespace=len(page) - len(tidied))
    return tidied
