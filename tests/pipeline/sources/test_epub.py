"""EPUB: chapters in reading order; what is none, encrypted or a bomb costs one record."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.sections import BookSource
from pipeline.sources.book import read
from tests.pipeline.corpus import only
from tests.pipeline.sources.raw import LIMIT, external, read_all

SOURCE = BookSource(paths=("unused",), min_characters=50)
WORDS = "The harbour of the old town lies open to the west, and the wind comes in with the tide. " * 3
CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="EPUB/package.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def _page(title: str, words: str = WORDS) -> str:
    head = (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head>'
    )
    return f"{head}<body><h1>{title}</h1><p>{words}</p></body></html>"


def epub(pages: dict[str, str], more: dict[str, str] | None = None, prolog: str = "") -> bytes:
    """An EPUB with these chapters, in this order, and a navigation document in between."""
    names = list(pages)
    items = "".join(
        f'<item id="i{number}" href="text/{name}" media-type="application/xhtml+xml"/>'
        for number, name in enumerate(names)
    )
    order = "".join(f'<itemref idref="i{number}"/>' for number in range(len(names)))
    package = (
        f'{prolog}<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>A Town</dc:title><dc:creator>Jane Doe</dc:creator>'
        '<dc:language>en</dc:language></metadata><manifest><item id="nav" href="nav.xhtml" properties="nav" '
        f'media-type="application/xhtml+xml"/>{items}</manifest><spine><itemref idref="nav"/>{order}</spine></package>'
    )
    content = {"mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER, "EPUB/package.opf": package}
    content |= {"EPUB/nav.xhtml": _page("Contents", "one two three " * 30)}
    content |= {f"EPUB/text/{name}": page for name, page in pages.items()}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (content | (more or {})).items():
            archive.writestr(name, text)
    return data.getvalue()


def _read(tmp_path: Path, content: bytes, **options: Any) -> list[Any]:
    found, damage = read_all(read, SOURCE.model_copy(update=options), external(tmp_path / "town.epub", content))
    assert not damage
    return found


def test_chapters_in_the_order_of_reading(tmp_path: Path) -> None:
    pages = {"b.xhtml": _page("Arrival"), "half.xhtml": _page("Half title", ""), "a%20b.xhtml": ""}
    found = _read(tmp_path, epub(pages, {"EPUB/text/a b.xhtml": _page("The café")}))
    assert [rule for _, rule in found] == [None, None]
    assert [document.metadata["chapter"] for document, _ in found] == ["Arrival", "Half title"]
    assert found[0][0].text.split("\n\n") == ["Arrival", WORDS.strip()]
    assert "The café" in found[1][0].text
    assert found[0][0].metadata | {"chapter": ""} == {
        "url": "",
        "title": "A Town",
        "author": "Jane Doe",
        "language": "en",
        "chapter": "",
    }


def test_gutenberg_epubs_lose_their_licence(tmp_path: Path) -> None:
    start = "<p>Title: A Town</p><p>*** START OF THE PROJECT GUTENBERG EBOOK A TOWN ***</p>"
    end = "<p>*** END OF THE PROJECT GUTENBERG EBOOK A TOWN ***</p><p>The licence, at length.</p>"
    text = "".join(
        document.text
        for document, _ in _read(
            tmp_path, epub({"a": _page("One").replace("<h1>", f"{start}<h1>"), "b": _page("Two", WORDS + end)})
        )
    )
    assert text.startswith("One")
    assert "licence" not in text
    assert "Two" in text


ENCRYPTED = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData '
    'xmlns="http://www.w3.org/2001/04/xmlenc#"><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>'
    "</EncryptedData></encryption>"
)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (epub({"a": _page("One")})[:-30], "failure/epub"),
        (b"PK\x03\x04 and then nothing", "failure/epub"),
        (epub({"a": _page("One")}, {"META-INF/container.xml": "<container/>"}), "failure/epub"),
        (epub({"a": _page("One")}, {"META-INF/container.xml": "<contain"}), "failure/epub"),
        (epub({"a": _page("One")}, {"META-INF/encryption.xml": ENCRYPTED}), "failure/encrypted"),
        (epub({"a": _page("One")}, prolog='<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>'), "failure/epub"),
        (epub({"a": _page("One", "x" * (LIMIT + 1))}), "too_large"),
        (epub({"a": "<div>" * 50_000}), "failure/text"),
    ],
    ids=["cut", "no zip", "no package", "no XML", "encrypted", "entities", "zip bomb", "nested"],
)
def test_what_is_no_book_is_one_reject(tmp_path: Path, content: bytes, rule: str) -> None:
    document, found = only(_read(tmp_path, content))
    assert found == rule
    assert document.metadata["failure"]
