"""Chapters of an EPUB: the files of its reading order, as its package document lists them.

Every file of the archive is read with a bound, whatever size the archive claims for it, and no XML may define entities.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from infra.storage import open_seekable
from pipeline.sections import BookSource
from pipeline.sources.archives import ZipArchive
from pipeline.sources.broken import ARCHIVE_ERRORS, is_of_the_file
from pipeline.sources.charset import decode
from pipeline.sources.gutenberg import LONGEST_FIELD, LONGEST_TITLE, Unreadable, strip_licence
from pipeline.sources.html import text_of
from pipeline.sources.stream import Limits, Part, tidy
from pipeline.tasks.documents import Document
from pipeline.tasks.guard import Extracted, guarded

__all__ = ["chapters"]

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""Ways to obfuscate fonts, which are no text."""
XML = 4 << 20
"""Most bytes of a package document: in memory it takes thirty times as much."""
_BREAK = "\n\n\x1c\n\n"
"""Between two files of the reading order."""


def chapters(source: BookSource, part: Part, limits: Limits, book: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Heading and text of each chapter; fills in title, author and language of the book.

    Raises:
        Unreadable: this is no EPUB, it is encrypted, or too large.
    """
    try:
        with open_seekable(part.file) as raw:
            pages = _pages(_Archive(ZipArchive(raw, part.file.size), limits.bytes), book)
    except ARCHIVE_ERRORS as error:
        if not is_of_the_file(error):
            raise
        raise Unreadable("failure/epub", f"not a whole EPUB ({error})") from None
    jobs = ((Document(text="", id="", metadata={}), page, None) for page in pages)
    texts = []
    for document, rule in guarded(_extract, jobs, limits.seconds):
        if rule:
            raise Unreadable(rule, f"a chapter: {document.metadata.get('failure', rule)}")
        texts.append(document.text)
    whole, _ = strip_licence(_BREAK.join(texts))
    if not source.split_chapters:
        yield "", tidy(whole.replace("\x1c", ""))
        return
    held = ""
    for text in whole.split("\x1c"):
        held = tidy(f"{held}\n\n{text}")
        if len(held) >= source.min_characters:
            heading = held.partition("\n")[0].strip()
            yield heading if len(heading) <= LONGEST_TITLE else "", held
            held = ""
    if held:
        yield "", held


def _extract(page: bytes) -> Extracted:
    return text_of(decode(page, html=True)[0], main_content=False)[1], {}, None


class _Archive:
    """Files of a zip archive, all together with no more than `room` bytes."""

    def __init__(self, archive: ZipArchive, room: int) -> None:
        self._archive, self._room = archive, room

    def __contains__(self, name: object) -> bool:
        return name in self._archive

    def read(self, name: str) -> bytes:
        data = self._archive.read(name, self._room)
        if isinstance(data, Exception):
            raise data
        if data is None:
            raise Unreadable("too_large", "too large for one book; raise extract.max_record_bytes")
        self._room -= len(data)
        return data

    def xml(self, name: str) -> ElementTree.Element:
        data = self.read(name)
        if len(data) > XML or b"<!ENTITY" in data or b"\0" in data:
            raise ValueError(f"{name} defines entities, is not UTF-8, or has more than {XML} bytes")
        try:
            return ElementTree.fromstring(data)
        except ElementTree.ParseError as error:
            raise ValueError(f"{name}: {error}") from None


def _pages(archive: _Archive, book: dict[str, Any]) -> list[bytes]:
    """The XHTML of the reading order, each file once."""
    if "META-INF/encryption.xml" in archive:
        methods = archive.xml("META-INF/encryption.xml").iter("{http://www.w3.org/2001/04/xmlenc#}EncryptionMethod")
        if any(method.get("Algorithm") not in _FONTS for method in methods):
            raise Unreadable("failure/encrypted", "the book is encrypted")
    rootfile = archive.xml("META-INF/container.xml").find(f".//{_CONTAINER}rootfile")
    if rootfile is None:
        raise ValueError("the container names no package document")
    place = rootfile.get("full-path") or ""
    package = archive.xml(place)
    for name, field in (("title", "title"), ("creator", "author"), ("language", "language")):
        if value := " ".join((package.findtext(f".//{_DC}{name}") or "").split()):
            book[field] = value[:LONGEST_FIELD]
    items = {item.get("id"): item for item in package.iter(f"{_OPF}item")}
    names: dict[str, None] = {}
    for reference in package.iter(f"{_OPF}itemref"):
        item = items.get(reference.get("idref"))
        if item is None or reference.get("linear") == "no" or "nav" in (item.get("properties") or "").split():
            continue
        if item.get("media-type") in _PAGES:
            names[posixpath.normpath(posixpath.join(posixpath.dirname(place), _href(item)))] = None
    return [archive.read(name) for name in names]


def _href(item: ElementTree.Element) -> str:
    return unquote((item.get("href") or "").partition("#")[0])
