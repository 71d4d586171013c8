"""EPUB: chapters in reading order; what is none, encrypted or a bomb costs one record."""

from __future__ import annotations

import html
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.sections import BookSource
from pipeline.sources.book import read
from pipeline.sources.html import MOST_DEPTH
from pipeline.tasks.documents import Document
from pipeline.tasks.ledger import take_record
from pipeline.tasks.verbatim import verbatim_of
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
    assert take_record(found[0][0].metadata, 0).cut["navigation"] > 100
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


def _texts(tmp_path: Path, content: bytes, **options: Any) -> str:
    found = _read(tmp_path, content, **options)
    assert all(rule is None for _, rule in found), found
    return "\n".join(document.text for document, _ in found)


@pytest.mark.parametrize("broken", ["missing", "corrupt", "nested", "not in the manifest"])
def test_a_chapter_that_cannot_be_read_costs_itself(tmp_path: Path, broken: str) -> None:
    deep = "<div>" * (MOST_DEPTH + 100) + "two" + "</div>" * (MOST_DEPTH + 100)
    pages = {"a": _page("One"), "b": _page("Two", deep if broken == "nested" else WORDS), "c": _page("Three")}
    content = epub(pages)
    if broken == "missing":
        content = content.replace(b"EPUB/text/b", b"EPUB/text/x")
    elif broken == "corrupt":
        content = _stored(content).replace(b"<h1>Two</h1>", b"<h1>2wo</h1>")
    elif broken != "nested":
        content = _with(content, "EPUB/package.opf", 'idref="i1"', 'idref="j1"')
    found = _read(tmp_path, content)
    assert [(document.text.partition("\n")[0], rule) for document, rule in found if rule is None] == [
        ("One", None),
        ("Three", None),
    ]
    ((reject, rule),) = [(document, rule) for document, rule in found if rule]
    assert rule == {"corrupt": "failure/epub", "nested": "failure/text"}.get(broken, "missing_chapter")
    assert reject.metadata["title"] == "A Town"
    said = {"missing": "EPUB/text/b of", "corrupt": "Bad CRC", "nested": "nested"}.get(broken, "j1 of")
    assert said in reject.metadata["failure"]


def _stored(content: bytes) -> bytes:
    """The archive without compression."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    return buffer.getvalue()


HEAD = '<html xmlns="http://www.w3.org/1999/xhtml"><head>'


@pytest.mark.parametrize(
    "page",
    [
        f"{HEAD}<title/></head><body><p>{WORDS}</p></body></html>",
        f'{HEAD}<title>x</title><script src="a.js"/></head><body><p>{WORDS}</p></body></html>',
        f"{HEAD}<title/></head><body><p>{WORDS}<br></p></body></html>",
        f"{HEAD}<title>x</title></head><body><iframe/><textarea/><p/><p>{WORDS}</p></body></html>",
        f'<x:html xmlns:x="http://www.w3.org/1999/xhtml"><x:head><x:title/></x:head><x:body><x:p>{WORDS}</x:p></x:body></x:html>',
        f'{HEAD}<style type="text/css"/></head><body><a id="x"/><p>{WORDS}</p></body></html>',
    ],
)
def test_elements_that_close_themselves_swallow_nothing(tmp_path: Path, page: str) -> None:
    text = _texts(tmp_path, epub({"a": page, "b": _page("Two")}))
    assert " ".join(text.split()).startswith(WORDS.strip())
    assert "Two" in text


def _package(content: bytes, *changes: tuple[str, str], member: str = "EPUB/package.opf") -> bytes:
    for there, instead in changes:
        content = _with(content, member, there, instead)
    return content


ITEM = '<item id="i1" href="text/b.xhtml" media-type="application/xhtml+xml"/>'


@pytest.mark.parametrize(
    "changes",
    [
        [('xmlns="http://www.idpf.org/2007/opf"', "")],
        [("A Town", "A &amp; B & C&nbsp;D")],
        [('href="text/b.xhtml"', 'href="text\\b.xhtml"')],
        [('href="text/b.xhtml"', 'href="/EPUB/text/b.xhtml"')],
        [('href="text/b.xhtml"', 'href="Text/B.XHTML"')],
        [(ITEM, ITEM.replace("application/xhtml+xml", "text/x-oeb1-document"))],
        [(ITEM, ITEM.replace("application/xhtml+xml", "image/jpeg"))],
        [(ITEM, f'<item id="i1" href="b.pdf" media-type="application/pdf" fallback="f"/>{ITEM.replace("i1", "f")}')],
        [("<spine>", "<none>"), ("</spine>", "</none>"), ("<itemref", "<gone"), ("<itemref", "<gone")],
        [('href="text/b.xhtml"', 'href="text/%62.xhtml"')],
        [("<package", "\ufeff\n <package")],
        [
            ('idref="i0"', 'idref="i0" linear="no"'),
            ('idref="i1"', 'idref="i1" linear="no"'),
            ('idref="nav"', 'idref="nav" linear="no"'),
        ],
        [
            (ITEM, ITEM + '<item id="t" href="nav.xhtml" media-type="application/xhtml+xml"/>'),
            (' properties="nav"', ""),
            ("</spine>", '</spine><guide><reference type="toc" href="nav.xhtml"/></guide>'),
        ],
    ],
    ids=[
        "namespace",
        "ampersand",
        "backslash",
        "root",
        "case",
        "old type",
        "wrong type",
        "fallback",
        "no spine",
        "escaped",
        "space before",
        "all auxiliary",
        "guide",
    ],
)
def test_a_package_that_is_not_as_it_should_be_costs_no_chapter(tmp_path: Path, changes: list[tuple[str, str]]) -> None:
    content = _package(epub({"a.xhtml": _page("One"), "b.xhtml": _page("Two")}), *changes)
    found = _read(tmp_path, content)
    assert [(document.text.partition("\n")[0], rule) for document, rule in found] == [("One", None), ("Two", None)]


def test_the_package_is_the_one_of_an_epub_that_is_there(tmp_path: Path) -> None:
    other = '<rootfiles><rootfile full-path="a.pdf" media-type="application/pdf"/>'
    content = _package(epub({"a.xhtml": _page("One")}), ("<rootfiles>", other), member="META-INF/container.xml")
    assert [rule for _, rule in _read(tmp_path, content)] == [None]


def test_numbers_of_printed_pages_are_no_text(tmp_path: Path) -> None:
    mark = '<span xmlns:epub="http://www.idpf.org/2007/ops" epub:type="pagebreak" id="p12">12</span>'
    words = f"the har{mark}bour <span role='doc-pagebreak'>13</span>lies open. "
    assert "the harbour lies open." in _texts(tmp_path, epub({"a": _page("One", words + WORDS)}))


@pytest.mark.parametrize(
    "subset",
    ["<!-- ]> --><!ENTITY a 'A'>", "<?pi ]>?><!ENTITY a 'A'>", "<!ATTLIST p x CDATA ']>'><!ENTITY a \"A\">"],
)
def test_a_bracket_within_a_document_type_ends_nothing(tmp_path: Path, subset: str) -> None:
    page = f"<!DOCTYPE html [{subset}]>{HEAD}<title>x</title></head><body><p>&a; {WORDS}</p></body></html>"
    assert _texts(tmp_path, epub({"a": page})).startswith("A The harbour")
    assert _texts(tmp_path, epub({"a": page.replace("<p>", "<p><br>")})).startswith("A The harbour")


DOCTYPE = """<?xml version="1.0"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://h/xhtml11.dtd" [
<!ENTITY name "Ann &amp; Co"><!ENTITY all '<b>&name;</b> &hearts;'>
<!ENTITY % p SYSTEM "http://h/x"> <!ENTITY file SYSTEM "file:///etc/hosts">]>
"""


def test_a_pages_own_entities_are_put_in_and_no_file_is(tmp_path: Path) -> None:
    words = f"By &all;&nbsp;caf&eacute; &unknown;&file; {WORDS}"
    page = f"{DOCTYPE}{HEAD}<title>x</title></head><body><p>{words}</p></body></html>"
    text = _texts(tmp_path, epub({"a": page})).replace("\xa0", " ")
    assert text.startswith("By Ann & Co ♥ café &unknown;&file; The harbour")


def test_entities_cannot_become_more_than_the_page(tmp_path: Path) -> None:
    laughs = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10 if n else 'ha' * 10}'>" for n in range(10))
    many = f"<!ENTITY a '{'x' * 9000}'>"
    for subset, use in ((laughs, "&e9;&e3;&e2;"), (many, "&a;" * 1000)):
        page = f"<!DOCTYPE html [{subset}]>{HEAD}<title>x</title></head><body><p>{use} {WORDS}</p></body></html>"
        found = _read(tmp_path, epub({"a": page, "b": _page("Two")}))
        assert sum(len(document.text) for document, _ in found) < 20_000
        assert "Two" in "".join(document.text for document, rule in found if rule is None)


def test_ruby_is_read_once(tmp_path: Path) -> None:
    bare, fenced = "<ruby>東京<rt>とうきょう</rt></ruby>", "<ruby>春<rp>(</rp><rt>はる</rt><rp>)</rp></ruby>"
    content = epub({"a": _page("一", f"{bare}の{fenced}は短い。" * 10)})
    assert "東京の春は短い。東京" in _texts(tmp_path, content)
    assert "東京(とうきょう)の春(はる)は短い。東京" in _texts(tmp_path, content, ruby_readings=True)


def test_what_is_auxiliary_is_left_out_and_counted(tmp_path: Path) -> None:
    content = epub({"a": _page("One"), "b": _page("Two"), "c": _page("Notes")})
    found = _read(
        tmp_path, _with(content, "EPUB/package.opf", '<itemref idref="i2"/>', '<itemref idref="i2" linear="no"/>')
    )
    assert [document.metadata["chapter"] for document, _ in found] == ["One", "Two"]
    assert take_record(found[0][0].metadata, 0).cut["auxiliary"] > len(WORDS) // 2


def test_fonts_that_are_obfuscated_are_no_matter(tmp_path: Path) -> None:
    fonts = ENCRYPTED.replace("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "http://www.idpf.org/2008/embedding")
    assert "One" in _texts(tmp_path, epub({"a": _page("One")}, {"META-INF/encryption.xml": fonts}))


def _with(content: bytes, name: str, old: str, new: str) -> bytes:
    """The archive with something else in a member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(buffer, "w") as after:
        for info in before.infolist():
            text = before.read(info)
            after.writestr(info.filename, text.replace(old.encode(), new.encode()) if info.filename == name else text)
    return buffer.getvalue()


CODE = "def f(x):\n    if x:   \n        return {\n\n\n\n            'a': x,\n        }\n"


def _code_page(title: str, code: str = CODE) -> str:
    return _page(title).replace("</body>", f"<pre>{html.escape(code)}</pre><p>{WORDS}</p></body>")


def _verbatim(document: Document) -> list[str]:
    return [document.text[begin:end] for begin, end in verbatim_of(document.metadata)]


@pytest.mark.parametrize("split", [True, False])
def test_preformatted_text_comes_through_to_the_byte(tmp_path: Path, split: bool) -> None:
    content = epub({"a.xhtml": _code_page("One"), "b.xhtml": _code_page("Two", "    x = 1\n\n\n    y = 2\n")})
    documents = [document for document, rule in _read(tmp_path, content, split_chapters=split) if rule is None]
    found = [text for document in documents for text in _verbatim(document)]
    assert [text.rstrip("\n") for text in found] == [CODE.rstrip("\n"), "    x = 1\n\n\n    y = 2"]
    assert not any(set("\x02\x03") & set(document.text) for document in documents)


def _renamed(content: bytes, changes: dict[str, str]) -> bytes:
    """The archive with members under other names, or, where that is empty, without them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            if name := changes.get(info.filename, info.filename):
                new.writestr(name, old.read(info))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"META-INF/container.xml": "", "mimetype": ""},
        {"EPUB/text/é b": "EPUB/text/e\u0301 b"},
        {"EPUB/text/é b": "EPUB/text/%C3%A9%20b"},
    ],
    ids=["no container", "decomposed", "escaped"],
)
def test_archives_that_name_their_files_otherwise(tmp_path: Path, changes: dict[str, str]) -> None:
    assert "One" in _texts(tmp_path, _renamed(epub({"é b": _page("One")}), changes))


def test_a_package_in_utf_16(tmp_path: Path) -> None:
    content = epub({"a": _page("One")}, prolog='<?xml version="1.0" encoding="utf-16"?>')
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info.filename, data.decode().encode("utf-16") if info.filename.endswith("opf") else data)
    assert "One" in _texts(tmp_path, buffer.getvalue())


def test_pictures_that_are_encrypted_are_no_matter(tmp_path: Path) -> None:
    picture = '<CipherData><CipherReference URI="EPUB/a.jpg"/></CipherData></EncryptedData>'
    pages = {"META-INF/encryption.xml": ENCRYPTED.replace("</EncryptedData>", picture)}
    assert "One" in _texts(tmp_path, epub({"a": _page("One")}, pages))
    chapter = {name: text.replace("a.jpg", "text/a") for name, text in pages.items()}
    assert only(_read(tmp_path, epub({"a": _page("One")}, chapter)))[1] == "failure/encrypted"
