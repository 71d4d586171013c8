"""What Project Gutenberg's files have around a book, and the books of a file, which may have several.

Three ages of files: since 2002 a header ends with `*** START OF THE PROJECT GUTENBERG EBOOK`, and a licence begins with
`*** END OF`; before, the "small print" ended the header, or stood behind the book with a header of a few paragraphs
before it. Other projects' languages have their own last lines ("Ende dieses Projekt Gutenberg Etextes"). The markers
are those that c-w/gutenberg and ropensci/gutenbergr have gathered, in forms that allow for what varies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["LONGEST_FIELD", "LONGEST_TITLE", "Book", "Unreadable", "books"]

_MARKS = re.compile(
    r"^[\ufeff \t]{0,20}(?:"
    r"(?P<start>\*[* ]{2,5}(?:START|BEGINNING) OF (?:THE|THIS) (?:COPYRIGHTED )?PROJECT GUTENBERG"
    r"(?P<title>[^*]{0,500}\*{3})?)"
    r"|(?P<end>\*[* ]{2,5}END OF (?:THE|THIS) (?:COPYRIGHTED )?PROJECT GUTENBERG|\*{3} ?START: FULL LICENSE"
    r"|\*{0,3} ?(?:End|Ende|Fin|Fine|Fim|Einde|Slut|Slutt|Loppu|Konec|Koniec)\b[^\n]{0,40}?"
    r"\b(?:Pro[jy]e[ck]?t[eo]?|Progetto) Gutenberg|Ende dieses (?:E-?text|E-?book)e?s\b"
    r"|This site is full of FREE e-?books)"
    r"|(?P<small_start>[* ]{0,10}(?:START[* ]{1,4}THE|\*{2,4}) {0,10}SMALL PRINT!)"
    r"|(?P<small_end>\*END[* ]{0,3}THE SMALL PRINT)"
    r"|(?P<header>\*{0,4}(?:The |This )?Project Gutenberg(?:'s|’s)? (?:E-?text|E-?book)(?: of\b|[ \t]{0,20}$))"
    r")[^\n]*(?:\n|\Z)",
    re.MULTILINE | re.IGNORECASE,
)
_HEADER = re.compile(
    r"\s{0,1000}\*{0,4} ?(?:The |This |A )?(?:Project Gutenberg|Distributed Proofreaders)(?:'s|’s)?\b[^\n]{0,20}?"
    r"E-?(?:text|book)",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"Project Gutenberg E-?(?:text|book)s? of ([^\n]{1,200}?)(?:,? by ([^\n]{1,200}?))?[ *]{0,8}$",
    re.IGNORECASE | re.MULTILINE,
)
_FIELD = re.compile(r"^(Title|Author): *(\S[^\n]*)", re.MULTILINE)
_ABOUT_THE_FILE = re.compile(
    r"Project Gutenberg|Distributed Proofreaders Canada"
    r"|\be-?texts?\b|\be-?books?\b|Plain Vanilla|electronic path|moved most of the information"
    r"|copyright laws|Character set encoding|^(?:Title|Author|Release Date|Language|Edition): ",
    re.IGNORECASE | re.MULTILINE,
)
"""In a paragraph before the book that is of the file and not of the book."""
_CREDITS = re.compile(
    r"\[?(?:Produced|Prepared|Transcribed|Scanned|Digitized|Typed|Edited) (?:and \w+ )?(?:by|from)\b"
    r"|E-?text (?:prepared|produced|scanned)|HTML version by|Distributed Proofread"
    r"|This (?:Project Gutenberg )?(?:e-?text|e-?book|file|book) was "
    r"(?:prepared|produced|scanned|created|transcribed|typed)"
    r"|(?:This file was )?produced from images|The Internet Archive",
    re.IGNORECASE,
)
"""How the paragraph begins that says who made the file."""
_BREAK = re.compile(r"\n[ \t]*\n")
_INK = re.compile(r"\S")
FRONT = 6000
"""Characters at the beginning of a book in which paragraphs about the file may stand."""
HEADER = 20_000
"""Characters before a book in which its title and author may stand."""
MOST_CREDITS = 5
"""Paragraphs of credits at most."""
LONGEST_TITLE = 120
LONGEST_FIELD = 1000
"""Characters kept of a book's title and author: every piece of it carries them."""
SHORT = 500
"""Characters beyond which what stands between a start and the next header is one that has lost its end."""
LEAST = 5000
"""Characters beyond which what stands before a header is a book that has lost its end."""


class Unreadable(Exception):  # noqa: N818  (a finding about the book)
    """A book, or a part of it, cannot be read; `rule` rejects it."""

    def __init__(self, rule: str, problem: str) -> None:
        super().__init__(problem)
        self.rule = rule


class Book(NamedTuple):
    """A book of a file, with what stands around it up to the next."""

    text: str
    fields: dict[str, str]
    """`title` and `author`, where the file says so."""
    characters: int
    """Of the book and of what is around it; of all books together those of the file."""
    cut: dict[str, int]
    """Characters around the book, by rule."""
    problem: Unreadable | None = None


class _Span(NamedTuple):
    begin: int
    end: int
    by: str
    """The mark that it follows: `start`, `small_end`, or none at the top of the file."""
    title: str
    is_whole: bool


def books(text: str) -> list[Book]:
    """The books of a file; all of it, where it says nothing of Project Gutenberg. One that has a header and no end is
    there with its problem. Lines end in `\\n`.
    """
    spans = list(_spans(text))
    found: list[Book] = []
    for number, span in enumerate(spans):
        begun = spans[number - 1].end if number else 0
        ended = len(text) if number + 1 == len(spans) else span.end
        found.append(_book(text, span, begun, ended))
    return found


def _spans(text: str) -> Iterator[_Span]:
    """Where the books are. What lies between is headers and licences."""
    begin: int | None = 0
    by = title = ""
    some, header = False, 0
    for mark in _MARKS.finditer(text):
        kind = "start" if mark["start"] else str(mark.lastgroup)
        if kind == "header":
            header = mark.start()
            begin, by, title = (mark.start(), "", "") if begin is None else (begin, by, title)
            continue
        if begin is not None and by == kind == "start" and header - begin > SHORT:  # a header, and no end before it
            yield _Span(begin, header, by, title, is_whole=False)
            some = True
        elif begin is not None and (kind == "end" or _is_book(text, begin, mark.start(), by)):
            is_whole = kind == "end" or (not by and kind == "small_start")
            yield _Span(begin, mark.start(), by, title, is_whole)
            some = True
        begin, by, title = (mark.end(), kind, mark["title"] or "") if kind in ("start", "small_end") else (None, "", "")
    if begin is not None and (not some or by == "start" or _is_book(text, begin, len(text), by)):
        yield _Span(begin, len(text), by, title, is_whole=not by)


def _is_book(text: str, begin: int, end: int, by: str) -> bool:
    """Whether so much lies between two marks that it must be a book."""
    return end - begin - (_front(text[begin : begin + FRONT]) if by != "start" else 0) > LEAST


def _book(text: str, span: _Span, begun: int, ended: int) -> Book:
    inner = text[span.begin : span.end]
    is_of_gutenberg = bool(span.by) or span.end < len(text) or _HEADER.match(inner) is not None
    front = _front(inner[:FRONT]) if is_of_gutenberg and span.by != "start" else 0
    fields = _fields(text[max(begun, span.begin - HEADER) : span.begin + front], span.title)
    body, credits_ = _without_credits(inner[front:]) if is_of_gutenberg else (inner, 0)
    characters = ended - begun
    cut = {"licence": characters - len(inner) + front, "credits": credits_}
    if not span.is_whole:
        line = text.count("\n", 0, span.end) + 1
        problem = f"line {line}: truncated: the Gutenberg header is there, its END marker is not"
        return Book(body, fields, characters, cut, Unreadable("failure/truncated", problem))
    return Book(body, fields, characters, cut)


def _front(text: str) -> int:
    """Where paragraphs about the file end."""
    end = begin = 0
    while begin < len(text):
        match = _BREAK.search(text, begin)
        stop = match.end() if match else len(text)
        if _ABOUT_THE_FILE.search(text, begin, stop):
            end = stop
        begin = stop
    return end


def _fields(header: str, title: str) -> dict[str, str]:
    fields = {name.lower(): value.strip()[:LONGEST_FIELD] for name, value in _FIELD.findall(header)}
    if "title" not in fields and (named := _NAMED.search(header)):
        fields |= {name: value for name, value in zip(("title", "author"), named.groups(), strict=True) if value}
    words = re.sub(r"^[\s,]*(?:E-?text|E-?book)s?\b(?: of)?[\s,]*", "", title.strip(" *"), flags=re.IGNORECASE)
    if "title" not in fields and words:
        fields["title"] = " ".join(words.split())[:LONGEST_FIELD]
    return fields


def _without_credits(text: str) -> tuple[str, int]:
    """`text` without the paragraphs at its beginning that name who prepared it; how many characters these had."""
    begin, end = _ink(text, 0), 0
    for _ in range(MOST_CREDITS):
        if not _CREDITS.match(text, begin):
            break
        match = _BREAK.search(text, begin)
        end = match.end() if match else len(text)
        begin = _ink(text, end)
    return text[end:], end


def _ink(text: str, begin: int) -> int:
    """The next character that is no white space."""
    match = _INK.search(text, begin)
    return match.start() if match else len(text)
