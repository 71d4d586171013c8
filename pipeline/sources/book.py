"""Books from plain text files and EPUBs, a document per chapter or piece of one.

Project Gutenberg's header and licence go, by the markers that its files have carried since 1991; title and author are
taken from the header. An EPUB's chapters are the files of its reading order; elsewhere they are found by their
headings. Pieces too small to stand alone (a title page, the lines of a table of contents) join what follows, and long
ones are cut between paragraphs.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from infra import events
from infra.storage import ExternalFile, open_file
from pipeline.sections import BookSource
from pipeline.sources import charset, epub
from pipeline.sources.book_formats import Volume, format_of, work_of
from pipeline.sources.charset import NotText
from pipeline.sources.gutenberg import LONGEST_FIELD, LONGEST_TITLE, Unreadable, books
from pipeline.sources.headings import headed
from pipeline.sources.html import prepare
from pipeline.sources.preformatted import Unmarking, tidied, without_marks
from pipeline.sources.stream import Found, Limits, Part, open_stream, wide_encoding
from pipeline.tasks.documents import Document
from pipeline.tasks.guard import guarded
from pipeline.tasks.ledger import note_part, note_record
from pipeline.tasks.verbatim import note_verbatim

__all__ = ["chapters", "cut", "parts", "read"]

_INK = re.compile(r"\S")
_CHARSET = re.compile(rb"^Character set encoding: *([A-Za-z0-9_-]+)", re.MULTILINE)
_CODE_PAGE = re.compile(r"^CP-(?=\d)")
_NAMES = {b"ISO-LATIN-1": "latin-1", b"ISO LATIN-1": "latin-1", b"UNICODE": "utf-8"}
"""What Gutenberg's older headers call some encodings."""
_NOT_LINEAR = ("punycode", "idna")
"""Python's decoders whose time grows with the square of the text; no book is written so."""
AUTO = "auto"


def parts(source: BookSource, file: ExternalFile, size: int) -> list[Part]:
    """One: a book is a record."""
    return [Part(file)]


def read(source: BookSource, part: Part, limits: Limits) -> Iterator[Found]:
    """The chapters of the books of a file.

    Raises:
        Damaged: the file breaks off.
    """
    name = PurePosixPath(part.file.name).name.partition(".")[0]
    try:
        found = list(_volumes(source, part, limits))
    except Unreadable as finding:
        found = [Volume({"title": name}, [], 0, {}, [finding])]
    for volume in found or [Volume({}, [], 0, {}, [])]:
        metadata = {"url": "", "title": name, **volume.metadata}
        documents = list(_documents(source, metadata, volume)) or [
            (Document(text="", id="", metadata=metadata), "too_short")
        ]
        note_record(documents[0][0].metadata, volume.characters, **volume.cut)
        for document, _ in documents[1:]:
            note_part(document.metadata)
        yield from documents


def _documents(source: BookSource, metadata: dict[str, Any], volume: Volume) -> Iterator[Found]:
    unmarked = Unmarking()
    for chapter, body in volume.chapters:
        for piece in cut(body, source.max_characters):
            text, spans = unmarked(piece)
            named = metadata | ({"chapter": chapter} if chapter else {})
            note_verbatim(named, spans)
            yield (
                Document(text=text, id="", metadata=named),
                None if len(text) >= source.min_characters else "too_short",
            )
    for problem in volume.problems:
        yield Document(text="", id="", metadata=metadata | {"failure": str(problem)}), problem.rule


def _volumes(source: BookSource, part: Part, limits: Limits) -> Iterator[Volume]:
    """The books of a file.

    Raises:
        Unreadable: it is none, or of a kind that is not read here.
    """
    with open_file(part.file) as raw:
        is_zip = raw.read(4) == b"PK\x03\x04"
    if is_zip:
        yield epub.volume(source, part, limits)
        events.advance(part.size)
        return
    with open_stream(part) as stream:
        content = stream.read(limits.bytes + 1)
    if len(content) > limits.bytes:
        raise Unreadable("too_large", "too large for one book; split it, or raise extract.max_record_bytes")
    text, title, markup = _plain(source, part, content, limits)
    for number, book in enumerate(books(text)):
        body = tidied(book.text)
        first = without_marks(body.partition("\n")[0]).strip()
        metadata = dict(book.fields)
        if named := metadata.get("title") or title or (first if 0 < len(first) <= LONGEST_TITLE else ""):
            metadata["title"] = named
        characters = book.characters + (0 if number else markup)
        if book.problem:
            yield Volume(metadata, [], characters, book.cut, [book.problem])
            continue
        pieces = list(chapters(body, source.min_characters)) if source.split_chapters else [("", body)]
        yield Volume(metadata, pieces, characters, book.cut, [])


def _plain(source: BookSource, part: Part, content: bytes, limits: Limits) -> tuple[str, str, int]:
    """The text of a file, its title where its format has one, and how many characters of markup it has."""
    work = work_of(format_of(part.file, content))
    if work is None:
        return without_marks(_decode(content, source.encoding), "\ufffd"), "", 0
    prepare()
    ((document, rule),) = guarded(work, [(Document(text="", id="", metadata={}), content, None)], limits.seconds)
    if rule:
        raise Unreadable(rule, str(document.metadata.get("failure", rule)))
    text = document.text.replace("\r\n", "\n")
    return text, document.metadata.get("title", "")[:LONGEST_FIELD], document.metadata["characters"] - len(text)


def _decode(raw: bytes, encoding: str) -> str:
    """The text of a book; `auto` takes a byte order mark, UTF-8, what a Gutenberg header declares, or finds it out, in
    this order.

    Raises:
        Unreadable: it is not in that encoding.
    """
    if encoding == AUTO:
        declared = _CHARSET.search(raw[:20_000])
        named = _NAMES.get(declared[1].upper(), _CODE_PAGE.sub("cp", declared[1].decode())) if declared else ""
        encoding = wide_encoding(raw[:8]) or "utf-8"
        if encoding == "utf-8" and b"\0" in raw:
            try:
                return _lines(charset.decode(raw)[0])
            except NotText as finding:
                raise Unreadable("failure/encoding", f"it is no text ({finding}); leave it out of paths") from None
        if encoding == "utf-8" and named and not _is(raw, "utf-8") and _is(raw, named):
            encoding = named
        elif encoding == "utf-8" and not _is(raw, encoding):
            with contextlib.suppress(NotText):
                return _lines(charset.decode(raw)[0])
    try:
        return _lines(raw.decode(encoding).removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = f"line {line}: byte {error.start} is not {encoding}; convert it, or set its encoding (latin-1?)"
        raise Unreadable("failure/encoding", problem) from None


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is(raw: bytes, encoding: str) -> bool:
    try:
        if codecs.lookup(encoding).name in _NOT_LINEAR:
            return False
        raw.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return False
    return True


def chapters(text: str, least: int) -> Iterator[tuple[str, str]]:
    """Heading and text (heading included) of each chapter; what has less than `least` characters joins the next.

    Many small pieces in a row, as a table of contents makes them, are one piece without a heading.
    """
    held = ""
    waiting: tuple[str, str] | None = None
    for title, piece in headed(text):
        if len(piece.strip()) < least:
            held += piece
            continue
        if waiting:
            yield waiting
        if len(held.strip()) >= least:
            yield "", held.strip()
            held = ""
        waiting, held = (title, (held + piece).strip()), ""
    if waiting and len(held.strip()) < least:
        yield waiting[0], (waiting[1] + "\n\n" + held.strip()).strip()
        return
    if waiting:
        yield waiting
    if held.strip():
        yield "", held.strip()


def cut(text: str, most: int) -> Iterator[str]:
    """`text` in pieces of about equal length and at most `most` characters, between paragraphs where it can be."""
    begin, stop, inked = 0, len(text), len(text.rstrip())
    while begin < stop:
        left = stop - begin
        count = -(-left // most)
        if count == 1:
            yield text[begin:stop]
            return
        aim = -(-left // count)
        places = (_nearest(text, sign, begin, aim, most) for sign in ("\n\n", "\n", " "))
        end = next((at for at in places if at is not None), begin + most)
        if piece := text[begin:end].rstrip():
            yield piece
        begin, stop = _next_line(text, end, stop), inked


def _next_line(text: str, end: int, stop: int) -> int:
    """Where what follows begins: with its indentation, which in code is a part of it, where a line ends before."""
    ink = _INK.search(text, end)
    if ink is None:
        return stop
    line = text.rfind("\n", end, ink.start())
    return ink.start() if line < 0 else line + 1


def _nearest(text: str, sign: str, begin: int, aim: int, most: int) -> int | None:
    """Where `sign` is, between half of `aim` and `most` characters after `begin`: the place closest to `aim`."""
    before = text.rfind(sign, begin + aim // 2, begin + aim)
    after = text.find(sign, begin + aim, begin + most)
    places = [place for place in (before, after) if place > begin]
    return min(places, key=lambda place: (abs(place - begin - aim), place), default=None)
