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
_TEX = re.compile(rb"^[ \t]{0,10}\\(?:documentclass|documentstyle|begin\{document\})", re.MULTILINE)
_REFUSED: tuple[tuple[str, str, Callable[[bytes, str], bool]], ...] = (
    ("PDF", "make text of it (pdftotext does so)", lambda head, _: head.startswith(b"%PDF-")),
    ("MOBI", _AS_EPUB, lambda head, _: head[60:68] in (b"BOOKMOBI", b"TEXtREAd")),
    ("DjVu", "make text of it (djvutxt does so)", lambda head, _: head.startswith(b"AT&TFORM")),
    ("FictionBook", _AS_EPUB, lambda head, _: b"<FictionBook" in head),
    ("Word", _AS_TEXT, lambda head, _: head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")),
    (
        "TeX",
        _AS_TEXT,
        lambda head, ending: ending in (".tex", ".latex", ".ltx") or _TEX.search(head) is not None,
    ),
    ("reStructuredText", _AS_TEXT, lambda _, ending: ending == ".rst"),
    ("Org", _AS_TEXT, lambda _, ending: ending == ".org"),
    ("AsciiDoc", _AS_TEXT, lambda _, ending: ending in (".adoc", ".asciidoc")),
)
"""Name, remedy, and how a file of it is told by its first bytes and its ending."""
_HTML = re.compile(
    rb"\s{0,100}(?:<\?xml[^>]{0,200}\?>\s{0,100})?(?:<!--[^>]{0,500}-->\s{0,100})?<(?:!doctype\s+html|html)\b", re.I
)
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def format_of(file: ExternalFile, content: bytes) -> str:
    """`text`, `html`, `rtf` or `markdown`.

    Raises:
        Unreadable: it is of a kind that is not read here.
    """
    head = content[:_HEAD].removeprefix(b"\xef\xbb\xbf")
    endings = [ending for ending in PurePosixPath(file.name.lower()).suffixes if ending not in _COMPRESSED]
    ending = endings[-1] if endings else ""
    for name, remedy, is_such in _REFUSED:
        if is_such(head, ending):
            raise Unreadable("failure/format", f"{name} is not read here; {remedy}")
    if head.lstrip().startswith(b"{\\rtf"):
        return "rtf"
    if _HTML.match(head) or (ending in (".htm", ".html", ".xhtml", ".xht") and b"<" in head):
        return "html"
    return "markdown" if ending in (".md", ".markdown", ".mkd") else "text"


def work_of(kind: str) -> Callable[[bytes], Extracted] | None:
    """The function that makes text of a file of a kind; None for plain text."""
    return {"html": _html, "rtf": _rtf, "markdown": _markdown}.get(kind)


def _html(content: bytes) -> Extracted:
    page = decode(content, html=True)[0]
    read = read_page(page, main_content=False)
    return marked(read), {"title": read.title, "characters": len(page)}, None


def _rtf(content: bytes) -> Extracted:
    from striprtf.striprtf import rtf_to_text

    source = content.decode("latin-1")  # RTF is ASCII, and says of all else what it is
    text = str(rtf_to_text(source, errors="replace"))
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # what it writes as two halves
    return without_marks(text, "\ufffd"), {"characters": len(source)}, None


def _markdown(content: bytes) -> Extracted:
    from markdown_it import MarkdownIt

    source = decode(content)[0]
    page = MarkdownIt("commonmark").enable("table").render(source)
    read = read_page(f"<html><body>{page}</body></html>", main_content=False)
    return marked(read), {"characters": len(source)}, None
