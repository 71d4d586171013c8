"""Chapters of an EPUB: the files of its reading order, as its package document lists them.

Every file of the archive is read with a bound, whatever size the archive claims for it, and no XML may define entities.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

from infra.storage import open_seekable
from pipeline.sections import BookSource
from pipeline.sources.archives import ZipArchive
from pipeline.sources.book_formats import Volume
from pipeline.sources.broken import ARCHIVE_ERRORS, is_of_the_file
from pipeline.sources.charset import decode
from pipeline.sources.gutenberg import LONGEST_FIELD, LONGEST_TITLE, Unreadable, books
from pipeline.sources.html import prepare, read_page
from pipeline.sources.preformatted import marked, tidied, without_marks
from pipeline.sources.stream import Limits, Part
from pipeline.sources.xhtml import resolved
from pipeline.tasks.documents import Document
from pipeline.tasks.guard import Extracted, guarded

__all__ = ["MISSING", "volume"]

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_CONTAINER_FILE, _ENCRYPTION_FILE = "META-INF/container.xml", "META-INF/encryption.xml"
MISSING = "missing_chapter"
"""The rule of a chapter that the archive lacks: a fault of the book, and no failure to read it."""
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""Ways to obfuscate fonts, which are no text."""
XML = 4 << 20
"""Most bytes of a package document: in memory it takes thirty times as much."""
_BREAK = "\n\n\x1c\n\n"
"""Between two files of the reading order."""


class _Page(NamedTuple):
    """A file of the reading order."""

    content: bytes
    rule: str
    """What leaves it out of the text, or ''."""


def volume(source: BookSource, part: Part, limits: Limits) -> Volume:
    """The book. A chapter that is not there, or cannot be read, is a problem of its own.

    Raises:
        Unreadable: this is no EPUB, it is encrypted, or too large.
    """
    metadata: dict[str, Any] = {}
    problems: list[Unreadable] = []
    try:
        with open_seekable(part.file) as raw:
            pages = list(_pages(_Archive(ZipArchive(raw, part.file.size), limits.bytes), metadata, problems))
    except ARCHIVE_ERRORS as error:
        if not is_of_the_file(error):
            raise
        raise Unreadable("failure/epub", f"not a whole EPUB ({error})") from None
    work = _with_readings if source.ruby_readings else _without_readings
    jobs = ((Document(text="", id="", metadata={"rule": page.rule}), page.content, None) for page in pages)
    texts: list[str] = []
    characters = 0
    cut: Counter[str] = Counter()
    prepare()
    for document, rule in guarded(work, jobs, limits.seconds):
        characters += document.metadata.get("characters", 0)
        if rule:
            problems.append(Unreadable(rule, f"a chapter: {document.metadata.get('failure', rule)}"))
        elif document.metadata["rule"]:
            cut[document.metadata["rule"]] += len(without_marks(document.text))
        else:
            texts.append(document.text)
    found = books(_BREAK.join(texts)) if texts else []
    problems += [book.problem for book in found if book.problem]
    for book in found:
        cut.update(book.cut)
    whole = "\x1c".join(book.text for book in found if not book.problem)
    return Volume(metadata, list(_chapters(source, whole)), characters, dict(cut), problems)


def _chapters(source: BookSource, whole: str) -> Iterator[tuple[str, str]]:
    """Heading and text of each chapter; small files join the next."""
    if not source.split_chapters:
        if text := tidied(whole.replace("\x1c", "")):
            yield "", text
        return
    held = ""
    for text in whole.split("\x1c"):
        held = tidied(f"{held}\n\n{text}")
        if len(held) >= source.min_characters:
            heading = without_marks(held.partition("\n")[0]).strip()
            yield heading if len(heading) <= LONGEST_TITLE else "", held
            held = ""
    if held:
        yield "", held


def _without_readings(page: bytes) -> Extracted:
    return _extract(page, readings=False)


def _with_readings(page: bytes) -> Extracted:
    return _extract(page, readings=True)


def _extract(content: bytes, *, readings: bool) -> Extracted:
    page = decode(content, html=True)[0]
    read = read_page(resolved(page, readings=readings), main_content=False, xhtml=True)
    return marked(read), {"characters": len(page)}, None


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

    def page(self, name: str) -> bytes | Unreadable:
        """A file, or why it cannot be read; one that is too large is a matter of the whole book."""
        if name not in self._archive:
            return Unreadable(MISSING, f"{name} of the reading order is not in the archive")
        try:
            return self.read(name)
        except ARCHIVE_ERRORS as error:
            if not is_of_the_file(error):
                raise
            return Unreadable("failure/epub", f"{name}: {error}")

    def xml(self, name: str) -> ElementTree.Element:
        data = self.read(name)
        if len(data) > XML or b"<!ENTITY" in data or b"\0" in data:
            raise ValueError(f"{name} defines entities, is not UTF-8, or has more than {XML} bytes")
        try:
            return ElementTree.fromstring(data)
        except ElementTree.ParseError as error:
            raise ValueError(f"{name}: {error}") from None


def _pages(archive: _Archive, book: dict[str, Any], problems: list[Unreadable]) -> Iterator[_Page]:
    """The XHTML of the reading order, each file once; fills in what is known of the book, and what is not there."""
    _check_kind(archive)
    _check_encryption(archive)
    rootfile = archive.xml(_CONTAINER_FILE).find(f".//{_CONTAINER}rootfile")
    if rootfile is None:
        raise ValueError("the container names no package document")
    place = rootfile.get("full-path") or ""
    package = archive.xml(place)
    for name, field in (("title", "title"), ("creator", "author"), ("language", "language")):
        if value := " ".join((package.findtext(f".//{_DC}{name}") or "").split()):
            book[field] = value[:LONGEST_FIELD]
    items = {item.get("id"): item for item in package.iter(f"{_OPF}item")}
    seen: set[str] = set()
    for reference in package.iter(f"{_OPF}itemref"):
        item = items.get(reference.get("idref"))
        if item is None:
            problems.append(
                Unreadable(MISSING, f"{reference.get('idref')} of the reading order is not in the manifest")
            )
            continue
        name = posixpath.normpath(posixpath.join(posixpath.dirname(place), _href(item)))
        if item.get("media-type") not in _PAGES or name in seen:
            continue
        seen.add(name)
        content = archive.page(name)
        if isinstance(content, Unreadable):
            problems.append(content)
        else:
            is_nav = "nav" in (item.get("properties") or "").split()
            yield _Page(content, "navigation" if is_nav else "auxiliary" if reference.get("linear") == "no" else "")


def _check_kind(archive: _Archive) -> None:
    """Raise an Unreadable where a zip archive is another kind of document."""
    if _CONTAINER_FILE in archive:
        return
    if "word/document.xml" in archive or "content.xml" in archive:
        kind = "Word" if "word/document.xml" in archive else "OpenDocument"
        raise Unreadable("failure/format", f"{kind} is not read here; make text of it (pandoc -t plain does so)")
    raise Unreadable("failure/epub", f"a zip archive that is no EPUB (no {_CONTAINER_FILE}); unpack it if it has books")


def _check_encryption(archive: _Archive) -> None:
    """Raise an Unreadable where more is encrypted than fonts."""
    if _ENCRYPTION_FILE in archive:
        methods = archive.xml(_ENCRYPTION_FILE).iter("{http://www.w3.org/2001/04/xmlenc#}EncryptionMethod")
        if any(method.get("Algorithm") not in _FONTS for method in methods):
            raise Unreadable("failure/encrypted", "the book is encrypted; get one without DRM")


def _href(item: ElementTree.Element) -> str:
    return unquote((item.get("href") or "").partition("#")[0])
