"""What kind of file a book is, told by its first bytes and its name, and the text of those that have markup.

Nothing is kept with its markup: HTML, RTF and Markdown are read, what is not read here is refused by its name and with
the way to a file that is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from infra.storage import ExternalFile
from pipeline.sources.charset import decode
from pipeline.sources.gutenberg import Unreadable
from pipeline.sources.html import read_page
from pipeline.sources.preformatted import marked, without_marks
from pipeline.sources.rtf import text_of_rtf
from pipeline.tasks.guard import Extracted

__all__ = ["Volume", "format_of", "work_of"]


class Volume(NamedTuple):
    """A book as its file has it."""

    metadata: dict[str, Any]
    chapters: list[tuple[str, str]]
    """Heading and text of each."""
    characters: int
    """Of the book in the file."""
    cut: dict[str, int]
    """Characters that rules took, by rule."""
    problems: list[Unreadable]
    """Of the whole book, or of single chapters."""


_AS_EPUB = "convert it to EPUB (Calibre's ebook-convert does so)"
_AS_TEXT = "make text of it (pandoc -t plain does so)"
_HEAD = 4096
_AS_TABLE = "read it as kind: jsonl or dataset, if it holds texts"
_AS_HTML = "save it as a plain HTML page"
_TOLD: tuple[tuple[str, str, str, re.Pattern[bytes]], ...] = tuple(
    (name, remedy, endings, re.compile(pattern or rb"(?!)", re.MULTILINE))
    for name, remedy, endings, pattern in (
        ("PDF", "make text of it (pdftotext does so)", ".pdf", rb"\A\s*%PDF-"),
        ("PostScript", "make text of it (ps2ascii does so)", ".ps .eps", rb"\A\s*%!PS"),
        ("MOBI", _AS_EPUB, ".mobi .azw .azw3 .prc", rb"\A(?s:.{60})(?:BOOKMOBI|TEXtREAd)"),
        ("LIT", _AS_EPUB, ".lit", rb"\AITOLITLS"),
        ("LRF", _AS_EPUB, ".lrf", rb"\AL\0R\0F\0"),
        ("CHM", _AS_EPUB, ".chm", rb"\AITSF"),
        ("DjVu", "make text of it (djvutxt does so)", ".djvu .djv", rb"\AAT&TFORM"),
        ("FictionBook", _AS_EPUB, ".fb2", rb"<FictionBook"),
        ("Word", _AS_TEXT, ".doc", rb"\A\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1|<w:wordDocument|progid=\"Word"),
        ("WordPerfect", _AS_TEXT, ".wpd", rb"\A\xffWPC"),
        (
            "TeX",
            _AS_TEXT,
            ".tex .latex .ltx .dtx",
            rb"^[ \t]{0,10}\\(?:documentclass|documentstyle|begin\{document\}|usepackage"
            rb"|(?:chapter|section|part)\*?\{)",
        ),
        ("Texinfo", _AS_TEXT, ".texi .texinfo .txi", rb"\A\s*\\input texinfo|^@settitle "),
        ("roff", "make text of it (man -l or groff -Tutf8 does so)", ".man .roff .troff .mdoc", rb"^\.(?:TH|Dd) \S"),
        ("reStructuredText", _AS_TEXT, ".rst", b""),
        ("Org", _AS_TEXT, ".org", b""),
        ("AsciiDoc", _AS_TEXT, ".adoc .asciidoc", b""),
        ("Textile", _AS_TEXT, ".textile", b""),
        ("markup of a wiki", _AS_TEXT, ".wiki .mediawiki", b""),
        ("PHP", _AS_HTML, ".php .asp .aspx .jsp", rb"\A\s*<\?php\b"),
        ("MHTML", _AS_HTML, ".mht .mhtml", rb"(?i:^Content-Type: multipart/related)"),
        ("a mailbox", "make text of it", ".eml .mbox", rb"^MIME-Version: 1|\AFrom \S+@\S+ "),
        ("JSON", _AS_TABLE, ".json .jsonl .ndjson .ipynb", b""),
        ("a table", _AS_TABLE, ".csv .tsv", b""),
        (
            "a file of subtitles",
            "read it as kind: subtitles",
            ".srt .vtt .ass",
            rb"\A\s*(?:\d+\s+)?(?:WEBVTT|\d\d:\d\d:\d\d[,.]\d{3} --> )",
        ),
        ("a tar archive", "unpack it", ".tar", rb"\A(?s:.{257})ustar"),
        ("a zip archive", "unpack it", ".zip", rb"\APK\x03\x04"),
        ("a file compressed with gzip twice", "unpack it once", "", rb"\A\x1f\x8b\x08"),
        ("a crawl", "read it as kind: web", "", rb"\AWARC/[01]\.\d"),
        ("a uuencoded file", "decode it", ".uu", rb"\A\s*begin [0-7]{3} \S"),
        (
            "XML",
            "make text of it (pandoc -f docbook|jats|tei -t plain, or convert it to HTML)",
            ".xml .tei .sgml .sgm .dbk .nxml .abw",
            rb"(?i:\A\s*(?:<\?xml\b|<!DOCTYPE\s+(?!html\b)))",
        ),
    )
)
"""Name, remedy, endings of its names, and how a file of it begins."""
_MARKDOWN = (".md", ".markdown", ".mkd", ".mdown", ".mkdn", ".mdx", ".qmd", ".rmd")
_HTML = re.compile(
    rb"\s{0,100}(?:<\?xml[^>]{0,200}\?>\s{0,100})?(?:<!--[^>]{0,500}-->\s{0,100})?<(?:!doctype\s+html|html)\b", re.I
)
_FRAGMENT = re.compile(
    rb"\s{0,100}<(?:body|div|p|h[1-6]|section|article|center|table|font|meta|title|head)\b[^<>]{0,500}>", re.I
)
_PARAGRAPHS = re.compile(rb"</(?:p|div|h[1-6]|title)>", re.I)
"""With the beginning of one, a page without the element of all pages."""
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def format_of(file: ExternalFile, content: bytes) -> str:
    """`text`, `html`, `rtf` or `markdown`.

    Raises:
        Unreadable: it is of a kind that is not read here.
    """
    head = content[:_HEAD].removeprefix(b"\xef\xbb\xbf")
    endings = [ending for ending in PurePosixPath(file.name.lower()).suffixes if ending not in _COMPRESSED]
    ending = endings[-1] if endings else ""
    is_page = ending in (".htm", ".html", ".xhtml", ".xht") and b"<" in head
    is_markdown = ending in _MARKDOWN  # which may begin with elements of HTML
    if _HTML.match(head) or is_page or (not is_markdown and _FRAGMENT.match(head) and _PARAGRAPHS.search(head)):
        return "html"
    for name, remedy, names, begins in _TOLD:
        if ending in names.split() or begins.search(head):
            raise Unreadable("failure/format", f"{name} is not read here; {remedy}")
    if head.lstrip().startswith(b"{\\rtf"):
        return "rtf"
    return "markdown" if is_markdown else "text"


def work_of(kind: str) -> Callable[[bytes], Extracted] | None:
    """The function that makes text of a file of a kind; None for plain text."""
    return {"html": _html, "rtf": _rtf, "markdown": _markdown}.get(kind)


def _html(content: bytes) -> Extracted:
    page = decode(content, html=True)[0]
    read = read_page(page, main_content=False)
    return marked(read), {"title": read.title, "characters": len(page)}, None


def _rtf(content: bytes) -> Extracted:
    source = content.decode("latin-1")  # RTF is ASCII, and says of all else what it is
    text = text_of_rtf(source)
    return without_marks(text, "\ufffd"), {"characters": len(source)}, None


def _markdown(content: bytes) -> Extracted:
    from pipeline.sources.markdown import to_html

    source = decode(content)[0]
    page, title = to_html(source)
    read = read_page(f"<html><body>{page}</body></html>", main_content=False)
    return marked(read), {"title": title, "characters": len(source)}, None
