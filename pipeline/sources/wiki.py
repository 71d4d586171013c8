"""Articles from MediaWiki XML dumps: mwxml reads the pages, mwparserfromhell the markup.

Kept is what a reader of the article would read: prose, headings, list items, link labels. Templates, tables,
references, files, categories, comments and formulas are left out, and so are sections that only list links.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import ParseError

import mwparserfromhell
import mwxml
from mwparserfromhell import nodes
from mwxml.errors import MalformedXML

from infra.storage import ExternalFile
from pipeline.documents import Document
from pipeline.sections import WikiSource
from pipeline.sources.stream import Damaged, Found, open_stream, tidy

__all__ = ["plain_text", "read"]

FILE, CATEGORY = 6, 14
"""Numbers of the namespaces whose links show no text, in every wiki."""
_NO_TEXT = frozenset({"file", "image", "category", "media"})
"""Their English names, understood everywhere."""
_NO_PROSE = frozenset({"table", "ref", "references", "gallery", "timeline", "score", "math", "chem", "imagemap"})
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*:")
_SWITCH = re.compile(r"__[A-Z]+__")
_EMPTY_BRACKETS = re.compile(r" ?\([\s,;:–-]*\)")
# What the parser takes for text because the writer left it open: references, tags, table rows, quotes, brackets.
_LEFTOVERS = re.compile(
    r"<ref\b[^>]*/>|<ref\b[^>]*>(?s:.{0,2000}?)</ref>|</?[a-zA-Z][^<>\n]*>"
    r"|^[ \t]*(?:\{\||\||!).*$|'{2,}|\[\[(?:[^\[\]|\n]*\|)*|\]\]",
    re.MULTILINE,
)
_REDIRECT = re.compile(r"\s*#redirect\b", re.IGNORECASE)


def read(source: WikiSource, file: ExternalFile, limit: int) -> Iterator[Found]:
    """The pages of `file` in their latest revision.

    Raises:
        Damaged: the XML is malformed or breaks off.
    """
    number, title = 0, ""
    with open_stream(file) as stream:
        try:
            dump = mwxml.Dump.from_file(stream)
            spaces = {space.id: space.name.lower() for space in dump.site_info.namespaces or ()}
            no_text = _NO_TEXT | {spaces.get(FILE, "file"), spaces.get(CATEGORY, "category")}
            base = (dump.site_info.base or "").rpartition("/")[0]
            for page in dump.pages:
                number, title = number + 1, page.title
                yield _page(page, base, no_text, source, limit)
        except ParseError as error:
            line, column = getattr(
                error, "position", (1, 0)
            )  # mwxml makes its own where not even the first tag is whole
            after = f"page {number + 1}" + (f", after {title!r}" if title else "")
            problem = str(error).partition(":")[0]
            raise Damaged(
                f"line {line}, column {column}", f"malformed or truncated XML in {after} ({problem})"
            ) from None
        except (MalformedXML, AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
            problem = str(error) or "this is no MediaWiki dump"
            raise Damaged(f"page {number + 1}", f"not what a MediaWiki dump has ({problem})") from None


def _page(page: Any, base: str, no_text: frozenset[str], source: WikiSource, limit: int) -> Found:
    latest = None
    for revision in page:
        latest = revision
    markup = (latest.text if latest is not None else None) or ""
    url = f"{base}/{quote(page.title.replace(' ', '_'), safe='/:(),!*')}" if base else ""
    document = Document(text="", id="", metadata={"url": url, "title": page.title, "page": page.id})
    if page.namespace not in source.namespaces:
        return document, f"namespace/{page.namespace}"
    if source.drop_redirects and (page.redirect or _REDIRECT.match(markup)):
        return document, "redirect"
    if len(markup.encode()) > limit:
        return document, "too_large"
    try:
        text = plain_text(markup, source.drop_sections, no_text)
    except (mwparserfromhell.parser.ParserError, RecursionError, ValueError) as error:
        document.metadata["failure"] = f"{type(error).__name__}: {error}"
        return document, "failure/markup"
    document.text = f"{page.title}\n\n{text}"
    return document, None if len(text) >= source.min_characters else "too_short"


def plain_text(markup: str, drop_sections: Iterable[str] = (), no_text: frozenset[str] = _NO_TEXT) -> str:
    """The prose of wiki markup. `no_text` names, in lower case, the namespaces whose links are left out."""
    dropped = {title.lower() for title in drop_sections}
    parts: list[str] = []
    below = 0  # level of the heading whose section is being left out
    for node in mwparserfromhell.parse(markup).nodes:
        if isinstance(node, nodes.Heading):
            title = _render(node.title, no_text).strip()
            if below and node.level > below:
                continue
            below = node.level if title.lower() in dropped else 0
            if not below:
                parts.append(f"\n\n{title}\n\n")
        elif not below:
            parts.append(_node(node, no_text))
    text = _LEFTOVERS.sub("", _SWITCH.sub("", "".join(parts)).replace("\xa0", " "))
    return tidy(_EMPTY_BRACKETS.sub("", text))


def _render(code: Any, no_text: frozenset[str]) -> str:
    return "".join(_node(node, no_text) for node in code.nodes) if code is not None else ""


def _node(node: Any, no_text: frozenset[str]) -> str:
    if isinstance(node, nodes.Text):
        return str(node.value)
    if isinstance(node, nodes.Wikilink):
        return _link(node, no_text)
    if isinstance(node, nodes.ExternalLink):
        return _render(node.title, no_text)
    if isinstance(node, nodes.HTMLEntity):
        return str(node.normalize())
    if isinstance(node, nodes.Heading):
        return _render(node.title, no_text)
    if isinstance(node, nodes.Tag):
        name = str(node.tag).strip().lower()
        if name in _NO_PROSE:
            return ""
        if name == "br":
            return "\n"
        if name == "li" and node.wiki_markup:
            return "-" if node.wiki_markup == "*" else ""
        return _render(node.contents, no_text)
    return ""  # templates, comments, arguments


def _link(node: nodes.Wikilink, no_text: frozenset[str]) -> str:
    target = str(node.title).strip()
    space, colon, _ = target.partition(":")
    if colon and space.strip().lower() in no_text:
        return ""
    if node.text is not None:
        return _render(node.text, no_text)
    if _LANGUAGE.match(target):  # the same article in another language
        return ""
    return _render(node.title, no_text).strip().lstrip(":")
