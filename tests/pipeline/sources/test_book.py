"""Books: the licence goes, chapters come, nothing in between is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sections import BookSource
from pipeline.sources.book import chapters, cut, read
from pipeline.sources.gutenberg import strip_licence
from tests.pipeline.corpus import only
from tests.pipeline.sources.raw import LIMIT, external, read_all

SOURCE = BookSource(paths=("unused",))
PARAGRAPH = "The harbour of the old town lies open to the west, and the wind comes in with the tide. " * 5
HEADER = "\ufeffThe Project Gutenberg eBook\n\nTitle: A Town\n\nAuthor: Jane Doe\n\n"
START, END = (
    "*** START OF THE PROJECT GUTENBERG EBOOK A TOWN ***\n",
    "*** END OF THE PROJECT GUTENBERG EBOOK A TOWN ***\n",
)


def _read(tmp_path: Path, text: str | bytes, **options: Any) -> tuple[list[Any], str]:
    source = SOURCE.model_copy(update=options)
    return read_all(read, source, external(tmp_path / "town.txt", text if isinstance(text, bytes) else text.encode()))


def test_gutenberg_files(tmp_path: Path) -> None:
    body = f"Produced by Volunteers\n\n\nA TOWN\n\nCHAPTER I. Home\n\n{PARAGRAPH}\n\nCHAPTER II.\n\n{PARAGRAPH}2\n\n"
    found, damage = _read(tmp_path, f"{HEADER}{START}{body}{END}The licence, at length.\n".replace("\n", "\r\n"))
    assert not damage
    assert [rule for _, rule in found] == [None, None]
    first, second = (document for document, _ in found)
    assert first.metadata == {"url": "", "title": "A Town", "author": "Jane Doe", "chapter": "CHAPTER I. Home"}
    assert first.text == f"A TOWN\n\nCHAPTER I. Home\n\n{PARAGRAPH.strip()}"
    assert second.text == f"CHAPTER II.\n\n{PARAGRAPH}2"


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (START, END),
        (START.replace("THE PROJECT", "THIS PROJECT"), "End of the Project Gutenberg EBook of A Town\n"),
        ("***START OF THE PROJECT GUTENBERG EBOOK A\nTOWN***\n", "***END OF THE PROJECT GUTENBERG EBOOK A TOWN***\n"),
        ("*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n", "End of Project Gutenberg's A Town\n"),
    ],
)
def test_markers_of_all_ages(start: str, end: str) -> None:
    text, fields = strip_licence(f"{HEADER}{start}body\n{end}licence")
    assert text.strip() == "body"
    assert fields == {"title": "A Town", "author": "Jane Doe"}


def test_a_gutenberg_file_without_its_end_is_cut(tmp_path: Path) -> None:
    document, rule = only(_read(tmp_path, f"{HEADER}{START}{PARAGRAPH}")[0])
    assert rule == "failure/truncated"
    assert document.metadata["failure"] == "line 8: truncated: the Gutenberg header is there, its END marker is not"


def test_plain_books_have_the_first_line_for_a_title(tmp_path: Path) -> None:
    document, rule = only(_read(tmp_path, f"A Town\n\n{PARAGRAPH}")[0])
    assert (document.metadata["title"], rule) == ("A Town", None)
    assert only(_read(tmp_path, PARAGRAPH)[0])[0].metadata["title"] == "town", "else the file's name"
    assert only(_read(tmp_path, "Stub")[0])[1] == "too_short"
    assert only(_read(tmp_path, "")[0])[1] == "too_short"


@pytest.mark.parametrize(
    "heading",
    [
        "CHAPTER 1",
        "Chapter XIV. Down the Rabbit-Hole",
        "Book the Second",
        "Chapter Twenty-one: Home",
        "ACT I",
        "Part 3 A Title",
    ],
)
@pytest.mark.parametrize("below", ["", "\nA name of its own"])
def test_headings(heading: str, below: str) -> None:
    text = f"{PARAGRAPH}\n\n{heading}{below}\n\n{PARAGRAPH}"
    assert [title for title, _ in chapters(text, 10)] == ["", heading]


@pytest.mark.parametrize(
    "words", ["Chapter two was long and\nthe town slept.", "Part of it burned.", "Act I did, and well."]
)
def test_a_sentence_that_begins_like_a_heading_is_none(words: str) -> None:
    text = f"Chapter 1\n\n{PARAGRAPH}\n\n{words}\n\n{PARAGRAPH}"
    assert [title for title, _ in chapters(text, 10)] == ["Chapter 1"]


def test_a_table_of_contents_makes_no_chapters() -> None:
    lines = "\n\n".join(f"CHAPTER {number}. Name" for number in range(1, 31))
    text = f"CONTENTS\n\n{lines}\n\nCHAPTER 1. Name\n\n{PARAGRAPH}\n\nCHAPTER 2. Name\n\n{PARAGRAPH}"
    found = list(chapters(text, 200))
    assert [title for title, _ in found] == ["", "CHAPTER 1. Name", "CHAPTER 2. Name"]
    assert found[0][1] == f"CONTENTS\n\n{lines}"


def test_encoding(tmp_path: Path) -> None:
    text = f"Title\n\nThe café {PARAGRAPH}".encode("latin-1")
    document, rule = only(_read(tmp_path, text)[0])
    assert rule == "failure/encoding"
    problem = "line 3: byte 14 is not utf-8; convert it, or set its encoding (latin-1?)"
    assert document.metadata["failure"] == problem
    assert "café" in only(_read(tmp_path, text, encoding="latin-1")[0])[0].text
    with pytest.raises(ValueError, match="no-such is no character encoding"):
        BookSource(paths=("x",), encoding="no-such")


@pytest.mark.parametrize("name", ["ISO-8859-1", "ISO-Latin-1", "windows-1252"])
def test_a_declared_encoding_is_taken_where_utf8_does_not_fit(tmp_path: Path, name: str) -> None:
    header = HEADER.removeprefix("\ufeff").replace("Author", f"Character set encoding: {name}\n\nAuthor")
    text = f"{header}{START}A café. {PARAGRAPH}\n{END}"
    for content in (text.encode("latin-1"), text.encode(), text.encode("utf-16")):
        assert "café" in only(_read(tmp_path, content)[0])[0].text


def test_a_book_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    document, rule = only(_read(tmp_path, "x" * (LIMIT + 1))[0])
    assert rule == "too_large"
    assert "too large for one book" in document.metadata["failure"]


def test_long_chapters_are_cut_between_paragraphs(tmp_path: Path) -> None:
    text = "\n\n".join([f"Town {number}. {PARAGRAPH}".strip() for number in range(30)])
    found, _ = _read(tmp_path, text, max_characters=2000)
    pieces = [document.text for document, _ in found]
    assert all(len(piece) <= 2000 and piece.startswith("Town") for piece in pieces)
    assert "\n\n".join(pieces) == text


PIECES = st.lists(
    st.sampled_from(["word ", "CHAPTER 1\n\n", "\n\nCHAPTER IV. A name\n\n", "\n", "\n\n", "x" * 50, "é"])
)


@given(PIECES, st.integers(1, 60))
def test_cutting_loses_nothing_and_keeps_to_the_limit(parts: list[str], most: int) -> None:
    text = "".join(parts).strip()
    pieces = list(cut(text, most))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= most for piece in pieces)


@given(PIECES, st.integers(1, 60))
def test_chapters_lose_nothing(parts: list[str], least: int) -> None:
    text = "".join(parts).strip()
    found = [body for _, body in chapters(text, least)]
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(len(body) >= least for body in found) or len(found) == 1


def test_what_a_book_says_of_itself_is_kept_short() -> None:
    text = f"Title: {'a' * 100_000}\nAuthor:  B\n\n*** START OF THE PROJECT GUTENBERG EBOOK A ***\nwords\n"
    _, fields = strip_licence(text + "*** END OF THE PROJECT GUTENBERG EBOOK A ***\n")
    assert fields == {"title": "a" * 1000, "author": "B"}, "every piece of the book carries it"


def test_a_header_cannot_choose_a_slow_decoder(tmp_path: Path) -> None:
    content = b"Character set encoding: punycode\n" + b"a" * 1_000_000 + b"-\xff" + b"b" * 1_000_000
    found, _ = read_all(read, SOURCE, external(tmp_path / "a.txt", content[:900_000] + b"\xff"))
    assert [rule for _, rule in found] == ["failure/encoding"]
