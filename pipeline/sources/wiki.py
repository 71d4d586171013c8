"""Articles from MediaWiki XML dumps of any wiki: pages are cut apart by their tags, mwparserfromhell reads the markup.

Kept is what a reader of the article would read: prose, headings, list items, link labels. Templates, tables,
references, files, categories, comments and formulas are left out, and so are sections that only list links. What a
wiki calls its files and categories is taken from the dump's own list of namespaces.

In a dump `<page>` is always a tag, for text has its `<` escaped. So each page is XML of its own: a malformed one costs
itself alone, a file may be read from anywhere, no entity but XML's five is ever defined, and of a long history no more
than one revision is held.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import mwparserfromhell
from mwparserfromhell import nodes

from infra.storage import ExternalFile
from pipeline.sections import WikiSource
from pipeline.sources.parts import split
from pipeline.sources.stream import Damaged, Found, Limits, Part, Stream, open_stream, tidy
from pipeline.tasks.documents import Document
from pipeline.tasks.guard import Extracted, Job, guarded

__all__ = ["pages", "parts", "plain_text", "read"]

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
    r"<ref\b[^>]{0,1000}/>|<ref\b[^>]{0,1000}>(?s:.{0,2000}?)</ref>|</?[a-zA-Z][^<>\n]*>"
    r"|^[ \t]*(?:\{\||\||!).*$|'{2,}|\[\[(?:[^\[\]|\n]*\|)*|\]\]",
    re.MULTILINE,
)
_REDIRECT = re.compile(r"\s*#redirect\b", re.IGNORECASE)


HEAD = 1 << 20
"""Most bytes before the first page, and of a page before its first revision."""
PAGE, REVISION, REVISION_END = b"<page>", b"<revision>", b"</revision>"
PAGE_BEGINS, PAGE_ENDS = re.compile(PAGE), re.compile(b"</page>")
REVISION_OR_END = re.compile(b"<revision>|</page>")
REVISION_ENDS = re.compile(REVISION_END)
TAG_ENDS = re.compile(b">")
HEAD_ENDS = re.compile(b"</siteinfo>")


@dataclass(frozen=True)
class Site:
    """What the head of a dump tells of its wiki."""

    base: str = ""
    """Address below which the articles are; empty if it is not told."""
    no_text: frozenset[str] = _NO_TEXT
    """Names, in lower case, of the namespaces whose links show no text."""


def parts(source: WikiSource, file: ExternalFile, size: int) -> list[Part]:
    """`file` in parts of about `size` bytes."""
    with open_stream(Part(file)) as stream:
        is_utf16 = stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return [Part(file)] if is_utf16 else split(file, size)


def read(source: WikiSource, part: Part, limits: Limits) -> Iterator[Found]:
    """The pages of `part` in their latest revision.

    Raises:
        Damaged: the XML breaks off, or is no MediaWiki dump.
    """
    with open_stream(Part(part.file)) as stream:
        site = _site(stream)
    with open_stream(part) as stream:
        if not part.begin:
            stream.recode()
        yield from guarded(_extract, _jobs(source, stream, site, limits, first=part.begin == 0), limits.seconds)


def _site(stream: Stream) -> Site:
    stream.recode()
    head = stream.take_through(HEAD_ENDS, HEAD)
    start = head.find(b"<siteinfo")
    if start < 0 or b"<mediawiki" not in head:
        raise Damaged("page 1", "this is no MediaWiki dump, or one that breaks off: it has no <siteinfo>")
    try:
        info = ElementTree.fromstring(head[start:])
    except ElementTree.ParseError as error:
        raise Damaged("page 1", f"malformed <siteinfo> ({error})") from None
    names = {space.get("key"): (space.text or "").lower() for space in info.iter("namespace")}
    own = {names[str(key)] for key in (FILE, CATEGORY) if names.get(str(key))}
    return Site((info.findtext("base") or "").rpartition("/")[0], _NO_TEXT | own)


def _jobs(source: WikiSource, stream: Stream, site: Site, limits: Limits, *, first: bool) -> Iterator[Job]:
    number = 0
    found = pages(stream, limits.bytes, first=first)
    while True:
        try:
            for raw, problem in found:
                number += 1
                document = Document(text="", id="", metadata={"url": ""})
                if problem:
                    document.metadata |= {"page": number, "failure": problem}
                    yield document, None, "failure/xml"
                else:
                    yield document, None if raw is None else (source, site, raw), "too_large" if raw is None else None
            return
        except Damaged as damage:
            damage = Damaged(f"page {number + 1}" if first else f"page {number + 1} of the part", str(damage))
            if not stream.resync():
                raise damage from None
            number += 1
            yield Document(text="", id="", metadata={"url": "", "failure": str(damage)}), None, "failure/damaged"
            found = pages(stream, limits.bytes, first=first)


def pages(stream: Stream, limit: int, *, first: bool = True) -> Iterator[tuple[bytes | None, str]]:
    """The `<page>` elements of a dump, each with its last revision only, None for one of more than `limit` bytes.

    With each comes what is wrong with its tags, if anything is.

    Raises:
        Damaged: the dump breaks off.
    """
    some = first
    while stream.skip_to(PAGE_BEGINS):
        if not stream.mine():
            return
        some = True
        page = stream.take_through(REVISION_OR_END, HEAD)
        if not page:
            _pass(stream, PAGE_ENDS)
            yield b"", "no revision where one should be"
            continue
        too_large = False
        tail = REVISION if page.endswith(REVISION) else b""
        head = page = page.removesuffix(REVISION)
        while tail.strip() == REVISION:
            if revision := stream.take_through(REVISION_ENDS, limit):
                page = b"".join([head, tail, revision])  # the one before was older
            else:
                _pass(stream, REVISION_ENDS)
            too_large = not revision
            tail = stream.take_through(TAG_ENDS, HEAD)
        page += tail
        if too_large:
            yield None, ""
        elif page.count(PAGE) > 1:  # the end of this one is missing, and the next may be whole
            whole = page[page.rindex(PAGE) :]
            yield page[: len(page) - len(whole)], "a page that does not end"
            yield whole, ""
        else:
            yield page, ""
    if some and b"</mediawiki>" not in stream.tail:  # a part without pages may begin within it
        raise Damaged("truncated", "the dump ends without </mediawiki>")


def _pass(stream: Stream, mark: re.Pattern[bytes]) -> None:
    if not (stream.skip_to(mark) and stream.take_through(mark, HEAD)):
        raise Damaged("truncated", "the dump ends within a page")


def _extract(payload: tuple[WikiSource, Site, bytes]) -> Extracted:
    """The text of a page, its metadata, and the rule that rejects it or None."""
    source, site, raw = payload
    try:
        page = ElementTree.fromstring(raw)
        title, space = page.findtext("title") or "", int(page.findtext("ns") or 0)
        markup = page.findtext("revision/text") or ""
        identity = int(page.findtext("id") or 0)
    except (ElementTree.ParseError, ValueError) as error:
        shown = raw[:200].decode("utf-8", "replace")
        return "", {"failure": f"{error}, in {shown}"}, "failure/xml"
    url = f"{site.base}/{quote(title.replace(' ', '_'), safe='/:(),!*')}" if site.base else ""
    metadata: dict[str, Any] = {"url": url, "title": title, "page": identity}
    if space not in source.namespaces:
        return "", metadata, f"namespace/{space}"
    if source.drop_redirects and (page.find("redirect") is not None or _REDIRECT.match(markup)):
        return "", metadata, "redirect"
    if (model := page.findtext("revision/model") or "wikitext") != "wikitext":
        return "", metadata, f"model/{model}"
    text = plain_text(markup, source.drop_sections, site.no_text)
    return f"{title}\n\n{text}", metadata, None if len(text) >= source.min_characters else "too_short"


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
