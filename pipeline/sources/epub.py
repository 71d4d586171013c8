"""Chapters of an EPUB: the files of its reading order, as its package document lists them.

Every file of the archive is read with a bound, whatever size the archive claims for it, and no XML may define entities.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
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
from pipeline.sources.stream import Limits, Part, wide_encoding
from pipeline.sources.xhtml import mended, resolved
from pipeline.tasks.documents import Document
from pipeline.tasks.guard import Extracted, guarded

__all__ = ["MISSING", "volume"]

_PACKAGE = "application/oebps-package+xml"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
_PAGE_NAMES = (".xhtml", ".html", ".htm")
"""Of pages whatever the manifest says that they are."""
MOST_FALLBACKS = 5
_CONTAINER_FILE, _ENCRYPTION_FILE = "META-INF/container.xml", "META-INF/encryption.xml"
MISSING = "missing_chapter"
"""The rule of a chapter that the archive lacks: a fault of the book, and no failure to read it."""
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""Ways to obfuscate fonts, which are no text."""
_NO_TEXT = (
    *(".jpg", ".jpeg", ".png", ".gif", ".svg", ".webp", ".css", ".otf", ".ttf", ".woff", ".woff2"),
    *(".mp3", ".m4a", ".mp4", ".ogg", ".webm", ".smil"),
)
_DECLARED = re.compile(r"<\?xml[^>]*\?>")
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
        self._by_spelling = {_spelled(info.filename): info.filename for info in archive.infos}

    def __contains__(self, name: object) -> bool:
        return name in self._archive

    def place_of(self, name: str) -> str:
        """What the archive calls the file that is meant, however its path is written; `name` where there is none."""
        plain = name.replace("\\", "/").lstrip("/")
        if name not in self and plain not in self:
            return self._by_spelling.get(_spelled(plain), name)
        return name if name in self else plain

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

    def package(self) -> str:
        """A package document, where no container names one; '' where there is none."""
        return next((name for name in self._by_spelling.values() if name.lower().endswith(".opf")), "")

    def xml(self, name: str) -> ElementTree.Element:
        data = self.read(name)
        if encoding := wide_encoding(data[:8]):
            data = _DECLARED.sub("", data.decode(encoding, "replace"), count=1).encode()
        data = data.removeprefix(b"\xef\xbb\xbf").lstrip()
        if len(data) > XML or b"<!ENTITY" in data or b"\0" in data:
            raise ValueError(f"{name} defines entities, is not UTF-8, or has more than {XML} bytes")
        try:
            return ElementTree.fromstring(data)
        except ElementTree.ParseError as error:
            try:
                return ElementTree.fromstring(mended(data.decode()))
            except (ElementTree.ParseError, ValueError):
                raise ValueError(f"{name}: {error}") from None


def _spelled(name: str) -> str:
    """A path in the spelling by which others are compared with it: of case, of accents, of what addresses escape."""
    return unicodedata.normalize("NFC", unquote(name)).lower()


def _pages(archive: _Archive, book: dict[str, Any], problems: list[Unreadable]) -> Iterator[_Page]:
    """The XHTML of the reading order, each file once; fills in what is known of the book, and what is not there."""
    _check_kind(archive)
    _check_encryption(archive)
    place = _package_place(archive)
    package = archive.xml(place)
    for name, field in (("title", "title"), ("creator", "author"), ("language", "language")):
        first = next(_named(package, name), None)
        if first is not None and (value := " ".join((first.text or "").split())):
            book[field] = value[:LONGEST_FIELD]
    items = {item.get("id"): item for item in _named(package, "item")}
    seen: set[str] = set()
    references = list(_named(package, "itemref")) or _in_order_of_manifest(items)
    aside = {id(each) for each in references if each.get("linear") == "no"}
    contents = {each.get("href") for each in _named(package, "reference") if each.get("type") == "toc"}
    for reference in references:
        item = _readable(items, reference.get("idref"))
        if item is None:
            problems.append(
                Unreadable(MISSING, f"{reference.get('idref')} of the reading order is not in the manifest")
            )
            continue
        name = archive.place_of(posixpath.normpath(posixpath.join(posixpath.dirname(place), _href(item))))
        if not _is_page(item) or name in seen:
            continue
        seen.add(name)
        content = archive.page(name)
        if isinstance(content, Unreadable):
            problems.append(content)
        else:
            is_nav = "nav" in (item.get("properties") or "").split() or item.get("href") in contents
            is_aside = id(reference) in aside and len(aside) < len(references)
            yield _Page(content, "navigation" if is_nav else "auxiliary" if is_aside else "")


def _named(root: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Elements of that name, in whatever namespace: some books declare none, or a wrong one."""
    return (each for each in root.iter() if isinstance(each.tag, str) and each.tag.rpartition("}")[2] == name)


def _package_place(archive: _Archive) -> str:
    """Where the package document is: the first that is there, or what is named instead."""
    if _CONTAINER_FILE not in archive:
        return archive.package()
    files = list(_named(archive.xml(_CONTAINER_FILE), "rootfile"))
    files.sort(key=lambda file: file.get("media-type") != _PACKAGE)
    places = [archive.place_of(file.get("full-path") or "") for file in files]
    if not places:
        raise ValueError("the container names no package document")
    return next((place for place in places if place in archive), places[0])


def _is_page(item: ElementTree.Element) -> bool:
    return item.get("media-type") in _PAGES or _href(item).lower().endswith(_PAGE_NAMES)


def _readable(items: Mapping[str | None, ElementTree.Element], name: str | None) -> ElementTree.Element | None:
    """The item of that name, or the one that is to be read in its place."""
    item = items.get(name)
    for _ in range(MOST_FALLBACKS):
        if item is None or _is_page(item) or item.get("fallback") not in items:
            break
        item = items[item.get("fallback")]
    return item


def _in_order_of_manifest(items: Mapping[str | None, ElementTree.Element]) -> list[ElementTree.Element]:
    """References to all pages of a book that has no reading order."""
    return [ElementTree.Element("itemref", idref=name or "") for name, item in items.items() if _is_page(item)]


def _check_kind(archive: _Archive) -> None:
    """Raise an Unreadable where a zip archive is another kind of document."""
    if _CONTAINER_FILE in archive or archive.package():
        return
    if "word/document.xml" in archive or "content.xml" in archive:
        kind = "Word" if "word/document.xml" in archive else "OpenDocument"
        raise Unreadable("failure/format", f"{kind} is not read here; make text of it (pandoc -t plain does so)")
    raise Unreadable("failure/epub", f"a zip archive that is no EPUB (no {_CONTAINER_FILE}); unpack it if it has books")


def _check_encryption(archive: _Archive) -> None:
    """Raise an Unreadable where more is encrypted than fonts."""
    if _ENCRYPTION_FILE in archive:
        encrypted = _named(archive.xml(_ENCRYPTION_FILE), "EncryptedData")
        if any(map(_is_text_encrypted, encrypted)):
            raise Unreadable("failure/encrypted", "the book is encrypted; get one without DRM")


def _is_text_encrypted(data: ElementTree.Element) -> bool:
    """Whether what is encrypted may be text: no font, picture or recording."""
    if all(method.get("Algorithm") in _FONTS for method in _named(data, "EncryptionMethod")):
        return False
    names = [(reference.get("URI") or "").lower() for reference in _named(data, "CipherReference")]
    return not names or not all(name.endswith(_NO_TEXT) for name in names)


def _href(item: ElementTree.Element) -> str:
    return unquote((item.get("href") or "").partition("#")[0])
