"""Books: the licence goes, chapters come, nothing in between is lost."""

from __future__ import annotations

import gzip
import io
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sections import BookSource
from pipeline.sources.book import chapters, cut, read
from pipeline.sources.gutenberg import Book, books
from pipeline.tasks.ledger import RECORD, take_record
from pipeline.tasks.verbatim import verbatim_of
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
    assert {key: value for key, value in first.metadata.items() if key != RECORD} == {
        "url": "",
        "title": "A Town",
        "author": "Jane Doe",
        "chapter": "CHAPTER I. Home",
    }
    assert first.text == f"A TOWN\n\nCHAPTER I. Home\n\n{PARAGRAPH.strip()}"
    assert second.text == f"CHAPTER II.\n\n{PARAGRAPH}2"


SMALL_START = "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\n"
SMALL_END = "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n"


def _one(text: str) -> Book:
    book: Book = only(books(text))
    assert book.characters == len(text) == len(book.text) + sum(book.cut.values())
    return book


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (START, END),
        (START.replace("THE PROJECT", "THIS PROJECT"), "End of the Project Gutenberg EBook of A Town\n"),
        ("***START OF THE PROJECT GUTENBERG EBOOK A\nTOWN***\n", "***END OF THE PROJECT GUTENBERG EBOOK A TOWN***\n"),
        (
            "*** START OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK A ***\n",
            "*** END OF THE COPYRIGHTED PROJECT GUTENBERG",
        ),
        (f"{SMALL_START}words\n{SMALL_END}", "End of Project Gutenberg's A Town\n"),
        (
            SMALL_END.replace("*END*", "*END ", 1).replace("04.29.93", "10/04/01"),
            "End of this Project Gutenberg Etext\n",
        ),
        (f"{SMALL_START}words\n{SMALL_END}\n{START}", f"End of Project Gutenberg's A Town\n\n{END}"),
        (START, "Ende dieses Projekt Gutenberg Etextes Die Stadt\n"),
        (START, "Ende dieses Etextes Die Stadt\n"),
        (START, "Fin de Project Gutenberg Etext La ville\n"),
        (START, "Fin del Proyecto Gutenberg Etext\n"),
    ],
)
def test_markers_of_all_ages(start: str, end: str) -> None:
    book = _one(f"{HEADER}{start}body\n{end}licence\n{SMALL_START if 'SMALL' not in start else ''}")
    assert book.text.strip() == "body"
    assert book.fields == {"title": "A Town", "author": "Jane Doe"}
    assert book.problem is None


ABOUT = (
    "**The Project Gutenberg Etext of A Town, by Jane Doe**\n\nPlease take a look at the important information in this "
    "header.\nWe encourage you to keep this file on your own disk, keeping an electronic path open.\n\n"
    "To encourage this, we have moved most of the information to the end.\n\n"
)


@pytest.mark.parametrize("last", ["End of The Project Gutenberg Etext of A Town\n\n", ""])
def test_the_small_print_may_stand_at_the_end(tmp_path: Path, last: str) -> None:
    words = f"CHAPTER I\n\n{PARAGRAPH * 20}\n\nCHAPTER II\n\n{PARAGRAPH}"
    text = f"{ABOUT}{words}\n\n{last}{SMALL_START}This etext may be copied.\n{SMALL_END}"
    book = _one(text)
    assert book.text.strip() == words.strip()
    assert book.fields == {"title": "A Town", "author": "Jane Doe"}
    found, _ = _read(tmp_path, text)
    assert [rule for _, rule in found] == [None, None]


def test_several_books_of_a_file(tmp_path: Path) -> None:
    small = (
        f"{ABOUT.replace('A Town', 'Two')}two {PARAGRAPH}\nEnd of Project Gutenberg's Two\n{SMALL_START}\n{SMALL_END}"
    )
    one = f"{HEADER}{START}one {PARAGRAPH}\n{END}The licence.\n"
    named = (
        "*** START OF THE PROJECT GUTENBERG EBOOK, THREE ***\nthree\n*** END OF THE PROJECT GUTENBERG EBOOK, THREE ***"
    )
    text = (one + small + named).removeprefix("\ufeff")
    found = books(text)
    assert [book.text.split()[0] for book in found] == ["one", "two", "three"]
    assert [book.fields["title"] for book in found] == ["A Town", "Two", "THREE"]
    assert sum(book.characters for book in found) == len(text)
    documents = [document for document, _ in _read(tmp_path, text)[0]]
    assert [document.metadata["title"] for document in documents] == ["A Town", "Two", "THREE"]
    assert [take_record(document.metadata, 0).characters for document in documents] == [
        book.characters for book in found
    ]


def test_a_book_that_lost_its_end_costs_itself_alone(tmp_path: Path) -> None:
    cut_off = f"{HEADER}{START}{PARAGRAPH * 20}"
    found, _ = _read(tmp_path, f"{cut_off}{HEADER}{START}two {PARAGRAPH}\n{END}{HEADER}{START}three")
    assert [(document.text[:3], rule) for document, rule in found] == [
        ("", "failure/truncated"),
        ("two", None),
        ("", "failure/truncated"),
    ]


def test_a_short_book_that_lost_its_end_is_counted(tmp_path: Path) -> None:
    header = HEADER.replace("eBook", "eBook of A Town")
    found, _ = _read(tmp_path, f"{header}{START}{PARAGRAPH * 3}\n{header}{START}two {PARAGRAPH}\n{END}")
    assert [(document.text[:3], rule) for document, rule in found] == [("", "failure/truncated"), ("two", None)]


def test_bytes_that_are_no_text_are_no_book(tmp_path: Path) -> None:
    document, rule = only(_read(tmp_path, bytes(range(9)) * 50)[0])
    assert (rule, document.text) == ("failure/encoding", "")
    plain = "The wind comes in with the tide. " * 9
    assert only(_read(tmp_path, plain.encode("utf-16-le"))[0])[0].text == plain.strip()


def test_credits_go_from_the_beginning_alone() -> None:
    credits_ = "Produced by Jane Doe and the Online\nDistributed Proofreading Team\n\n[Transcribed by the same]\n\n"
    words = "A TOWN\n\nProduced by the wind, the waves were high.\n\nTranscribed from memory.\n\nThe end."
    book = _one(f"{HEADER}{START}\n{credits_}{words}\n{END}")
    assert book.text.strip() == words
    assert book.cut["credits"] == len(credits_) + 1


def test_a_text_without_any_marker_is_left_alone() -> None:
    text = f"Produced by hand.\n\nOf Project Gutenberg we know little.\n\n{PARAGRAPH}"
    assert _one(text) == Book(text, {}, len(text), {"licence": 0, "credits": 0})


@pytest.mark.parametrize("header", [f"{HEADER}{START}", f"{HEADER}{SMALL_START}words\n{SMALL_END}"])
def test_a_gutenberg_file_without_its_end_is_cut(tmp_path: Path, header: str) -> None:
    document, rule = only(_read(tmp_path, f"{header}{PARAGRAPH}")[0])
    assert rule == "failure/truncated"
    line = header.count("\n") + 1
    problem = f"line {line}: truncated: the Gutenberg header is there, its END marker is not"
    assert document.metadata["failure"] == problem


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


@pytest.mark.parametrize("codec", ["cp949", "cp1251", "shift_jis"])
def test_an_encoding_that_nobody_declares_is_found_out(tmp_path: Path, codec: str) -> None:
    words = {
        "cp949": "시장 골목에는 아침부터 사람들이 모여들어 물건을 사고판다. ",
        "cp1251": "Гавань старого города открыта. ",
    }
    text = words.get(codec, "古い町の港は西に開けていて、風は潮とともに入ってくる。") * 20
    assert only(_read(tmp_path, text.encode(codec))[0])[0].text == text.strip()
    stray = (text * 2).encode()[:-1] + b"\xff"
    assert text.strip() in only(_read(tmp_path, stray)[0])[0].text


def test_encoding(tmp_path: Path) -> None:
    text = f"Title\n\nThe café {PARAGRAPH}".encode("latin-1")
    assert "café" in only(_read(tmp_path, text)[0])[0].text
    document, rule = only(_read(tmp_path, text, encoding="utf-8")[0])
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
    text = f"Title: {'a' * 10_000}\nAuthor:  B\n\n*** START OF THE PROJECT GUTENBERG EBOOK A ***\nwords\n"
    book = _one(text + "*** END OF THE PROJECT GUTENBERG EBOOK A ***\n")
    assert book.fields == {"title": "a" * 1000, "author": "B"}, "every piece of the book carries it"


def test_a_header_cannot_choose_a_slow_decoder(tmp_path: Path) -> None:
    content = b"Character set encoding: punycode\n" + b"a" * 1_000_000 + b"-\xff" + b"b" * 1_000_000
    begin = time.process_time()
    found, _ = read_all(read, SOURCE, external(tmp_path / "a.txt", content[:900_000] + b"\xff"))
    assert found[0][0].text.startswith("Character set")
    assert time.process_time() - begin < 10


@pytest.mark.parametrize(
    "heading",
    [
        *("Erstes Kapitel", "Kapitel 2: Der Hafen", "CHAPITRE PREMIER", "Capítulo II", "CAPITOLO TERZO", "Глава 3"),
        *("ЧАСТЬ ВТОРАЯ", "第一章", "第十二回　風", "제3장 항구", "HOOFDSTUK IV", "الفصل الأول", "CHAP. IV."),
        *("PROLOGUE", "_CHAPTER I_", "          CHAPTER I", "EERSTE HOOFDSTUK", "ADVENTURE I. A SCANDAL", "IV"),
    ],
)
def test_headings_of_other_languages_and_shapes(heading: str) -> None:
    text = f"{PARAGRAPH}\n\n{heading}\n\n{PARAGRAPH}"
    assert [title for title, _ in chapters(text, 10)] == ["", " ".join(heading.strip(" _").split())]


@pytest.mark.parametrize("words", ["Глава 2 была длинной.", "Kapitel 2 war lang.", "第一章で見た。", "I\nIV"])
def test_sentences_of_other_languages_are_no_headings(words: str) -> None:
    text = f"Chapter 1\n\n{PARAGRAPH}\n\n{words}\n\n{PARAGRAPH}"
    assert [title for title, _ in chapters(text, 10)] == ["Chapter 1"]


@pytest.mark.parametrize(
    ("header", "end"),
    [
        ("A Project Gutenberg of Australia eBook\n\nTitle: A\neBook No.: 1\n", "This site is full of FREE ebooks\nx\n"),
        ("* A Project Gutenberg Canada Ebook *\n\nThis ebook is made available at no cost.\n", ""),
        ("* A Distributed Proofreaders Canada eBook *\n\nThis eBook is made available.\n", ""),
    ],
)
def test_what_sister_projects_have_around_a_book(header: str, end: str) -> None:
    assert _one(f"{header}\n{PARAGRAPH}\n\n{end}").text.strip() == PARAGRAPH.strip()


MARKDOWN = {
    "---\ntitle: A\ntags: [b]\n---\n\nwords": "words",
    "\ufeff+++\ntitle = 'A'\n+++\nwords": "words",
    "% A\n% Jane\n\nwords": "words",
    "words\n\n---\n\nmore": "words\n\nmore",
    "$a*b*c$ and *d* and $x_1$, $\\{x \\mid x>0\\}$": "$a*b*c$ and d and $x_1$, $\\{x \\mid x>0\\}$",
    "It cost $5 and then $6, *really*.": "It cost $5 and then $6, really.",
    r"Let \(a_1*b*c\) \[sic\] be \[x^2\].": r"Let \(a_1*b*c\) [sic] be \[x^2\].",
    "$$\na &= b \\\\\n- c &= d\n$$\n\nend": "$$\na &= b \\\\\n- c &= d\n$$\n\nend",
    "\\begin{align}\na &= *b* \\\\\n\\end{align}": "\\begin{align}\na &= *b* \\\\\n\\end{align}",
    "words[^1]\n\n[^1]: Yes.\n[^2]: No.": "words[^1]\n\n[^1]: Yes.\n\n[^2]: No.",
    "~~gone~~ here": "gone here",
    "# Head {#a .b}\n\nset {x=1}": "Head\n\nset {x=1}",
    "::: {.note}\nwords\n:::\n\n```\n:::\n```": "words\n\n:::",
    "これは**「強調」**です。": "これは「強調」です。",
    "<div align='center'>\n\n**words**\n\n</div>": "words",
}


@pytest.mark.parametrize("source", MARKDOWN)
def test_markdown_as_books_have_it(tmp_path: Path, source: str) -> None:
    ((document, _),), _ = read_all(read, SOURCE, external(tmp_path / "a.md", source.encode()))
    assert document.text == MARKDOWN[source]


FONTS = r"{\fonttbl{\f0\fswiss Arial;}{\f1\fcharset204 Arial;}{\f2\fcharset128 Gothic;}{\f3\fcharset2 Symbol;}}"
RICH_TEXT = {
    r"{\f1 \'c3\'e0\'e2} {\f2 \'8d\'60} caf\'e9 {\f3 ab\u-3913?}": "Гав 港 café αβ•",
    r"\mac caf\'8e\pc  caf\'82": "café café",
    r'See {\field{\*\fldinst{HYPERLINK "http://h"}}{\fldrslt{the town}}} now': "See the town now",
    r"a{\v hidden}b{\deleted gone}c{\*\annotation no}": "abc",
    r"Words{\super\chftn}{\footnote\chftn  Said.} go": "Words[1] go\n\n[1] Said.",
    r"\trowd One\cell Two\cell\row Three\cell\row": "One\tTwo\nThree",
    r"{\shp{\*\shpinst{\sp{\sn x}{\sv 1}}{\shptxt Box}}}{\upr{x}{\*\ud{y}}}": "Boxy",
    "a{\\pict\\bin3 }}}}b \\uc2\\u26481??c\\\nd": "ab 東c\nd",
}


@pytest.mark.parametrize("body", RICH_TEXT)
def test_rich_text(tmp_path: Path, body: str) -> None:
    content = (r"{\rtf1\ansi\ansicpg1252\deff0" + FONTS + r"\f0 " + body + "}").encode("latin-1")
    ((document, _),), _ = read_all(read, SOURCE, external(tmp_path / "a.rtf", content))
    assert document.text == RICH_TEXT[body].strip()


RTF = (
    r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Times;}}{\info{\title x}}\f0 CHAPTER I\par \par "
    r"The caf\'e9, \u26481?\u-10179?\u-8704?\par %s\par}"
)
PAGE = (
    "<!DOCTYPE html><html><head><title>A Town</title><style>p{margin:0}</style></head><body><h2>CHAPTER I</h2><p>%s</p>"
)


@pytest.mark.parametrize(
    ("name", "content", "begins"),
    [
        ("a.htm", PAGE % PARAGRAPH, "CHAPTER I\n\nThe harbour"),
        ("a.txt", "<?xml version='1.0'?><!-- c --> " + PAGE % PARAGRAPH, "CHAPTER I\n\nThe harbour"),
        ("a.html", f"<p>{PARAGRAPH}", "The harbour"),
        ("a.txt", f"<div class='x'><p>CHAPTER I</p><p>{PARAGRAPH}</p></div>", "CHAPTER I\n\nThe harbour"),
        ("a.rtf", RTF % PARAGRAPH, "CHAPTER I\n\nThe café, 東😀\nThe harbour"),
        ("a.txt", RTF % PARAGRAPH, "CHAPTER I\n\nThe café, 東😀\nThe harbour"),
        ("a.md", f"# A Town\n\n*The* [harbour](http://h) & `<b>`\n\n{PARAGRAPH}", "A Town\n\nThe harbour & <b>\n\nThe"),
    ],
)
def test_markup_is_read_by_its_kind(tmp_path: Path, name: str, content: str, begins: str) -> None:
    for ending, data in ("", content.encode()), (".gz", gzip.compress(content.encode())):
        found, _ = read_all(read, SOURCE, external(tmp_path / f"{name}{ending}", data))
        document, rule = only(found)
        assert rule is None
        assert document.text.startswith(begins)
        assert document.text.endswith("tide.")
        assert take_record(document.metadata, 0).characters == len(content)


def _zip(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tex", b"Some words", "TeX is not read here; make text of it"),
        ("a.txt", b"% a comment\n\\documentclass{book}\\begin{document}words", "TeX"),
        ("a.txt", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3", "PDF is not read here; make text of it (pdftotext"),
        (
            "a.fb2",
            b"<?xml version='1.0'?><FictionBook xmlns='x'><body/>",
            "FictionBook is not read here; convert it to EPUB",
        ),
        ("a.azw3", bytes(60) + b"BOOKMOBI" + bytes(9), "MOBI"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "Word is not read here; make text of it"),
        ("a.docx", _zip(word__document_xml="<x/>"), "Word"),
        ("a.odt", _zip(mimetype="application/vnd.oasis.opendocument.text", content_xml="<x/>"), "OpenDocument"),
        ("a.rst", b"Title\n=====\n\nwords", "reStructuredText"),
        ("a.txt", b"\\chapter{One}\nwords", "TeX"),
        ("a.txt", b"\n\n%PDF-1.4\n", "PDF"),
        ("a.ps", b"%!PS-Adobe-3.0\n(Hello) show", "PostScript"),
        ("a.lit", b"ITOLITLS" + bytes(99), "LIT"),
        ("a.wpd", b"\xffWPC" + bytes(99), "WordPerfect"),
        ("a.txt", b"<?xml version='1.0'?><TEI xmlns='http://www.tei-c.org/ns/1.0'><text/></TEI>", "XML"),
        ("a.txt", b"<!DOCTYPE book PUBLIC 'x'><book/>", "XML"),
        ("a.1", b".TH LS 1\n.SH NAME\nls", "roff"),
        ("a.texi", b"\\input texinfo\n@settitle T\nwords", "Texinfo"),
        ("a.mht", b"MIME-Version: 1.0\nContent-Type: multipart/related\n\n<html>", "MHTML"),
        ("a.txt", b"1\n00:00:01,000 --> 00:00:02,000\nwords", "a file of subtitles is not read here; read it as kind"),
        ("a.json", b'{"text": "words"}', "JSON"),
        ("a.csv", b"a,b\n", "a table"),
        ("a.php", b"<?php x ?>words", "PHP"),
        ("a.tar.gz", gzip.compress(b"a.txt" + bytes(252) + b"ustar\x0000" + bytes(247) + b"words"), "a tar archive"),
        ("a.epub.gz", gzip.compress(_zip(mimetype="application/epub+zip")), "a zip archive"),
        ("a.txt.gz", gzip.compress(gzip.compress(b"words")), "a file compressed with gzip twice"),
        ("a.warc", b"WARC/1.0\r\nWARC-Type: response\r\n", "a crawl is not read here; read it as kind: web"),
    ],
)
def test_what_is_not_read_is_named_with_the_remedy(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    document, rule = only(read_all(read, SOURCE, external(tmp_path / name, content))[0])
    assert (rule, document.text) == ("failure/format", "")
    assert document.metadata["failure"].startswith(said)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", "<html><body><p>{words}</p><pre>{code}</pre><p>{words}</p></body></html>"),
        ("a.md", "{words}\n\n```python\n{code}```\n\n{words}"),
    ],
)
def test_preformatted_text_of_a_marked_up_book_is_verbatim(tmp_path: Path, name: str, content: str) -> None:
    code = "for x in y:\n    print(x)  \n\n\n\n    z = x\n"
    text = content.format(words="The wind comes in with the tide. " * 3, code=code)
    found, _ = read_all(read, SOURCE, external(tmp_path / name, text.encode()))
    ((document, rule),) = found
    assert rule is None
    assert [document.text[begin:end].rstrip("\n") for begin, end in verbatim_of(document.metadata)] == [
        code.rstrip("\n")
    ]


def test_a_cut_in_preformatted_text_keeps_the_indentation(tmp_path: Path) -> None:
    code = "".join(f"    line_{number} = {number}\n" for number in range(100))
    page = f"<html><body><pre>{code}</pre></body></html>"
    found, _ = read_all(
        read, SOURCE.model_copy(update={"max_characters": 700}), external(tmp_path / "a.html", page.encode())
    )
    texts = [document.text for document, _ in found]
    assert len(texts) > 2
    assert "\n".join(texts) == code.rstrip("\n")
    assert all(verbatim_of(document.metadata) == [(0, len(document.text))] for document, _ in found)


def test_characters_that_are_used_as_marks_are_no_marks(tmp_path: Path) -> None:
    text = ("The wind\x02 comes in with\x03 the tide. " * 3).encode()
    found, _ = read_all(read, SOURCE, external(tmp_path / "a.txt", text))
    assert [verbatim_of(document.metadata) for document, _ in found] == [[]]
