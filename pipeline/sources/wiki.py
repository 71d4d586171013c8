"""Articles from MediaWiki XML dumps of any wiki: pages are cut apart by their tags, `wikitext` reads the markup.

What a wiki calls its files, categories and templates is taken from the dump's own list of namespaces and from tables of
all their aliases; which sections only list links, from a table by language.

In a dump `<page>` is always a tag, for text has its `<` escaped. So each page is XML of its own: a malformed one costs
itself alone, a file may be read from anywhere, no entity but XML's five is ever defined, and of a long history no more
than one revision is held.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from infra.storage import ExternalFile
from pipeline.sections import WikiSource
from pipeline.sources.parts import split
from pipeline.sources.signatures import content_of
from pipeline.sources.stream import Damaged, Foreign, Found, Limits, Part, Stream, open_stream, wide_encoding
from pipeline.sources.wikitext.render import rendered
from pipeline.sources.wikitext.wikis import Wiki, code_of, wiki_of
from pipeline.tasks.documents import Document
from pipeline.tasks.guard import Extracted, Job, guarded
from pipeline.tasks.ledger import note_record
from pipeline.tasks.verbatim import note_verbatim

__all__ = ["Site", "pages", "parts", "read", "site_of"]

HEAD = 1 << 20
"""Most bytes before the first page, and of a page before its first revision."""
PAGE, REVISION, REVISION_END = b"<page>", b"<revision>", b"</revision>"
PAGE_BEGINS, PAGE_ENDS = re.compile(PAGE), re.compile(b"</page>")
REVISION_OR_END = re.compile(b"<revision>|</page>")
REVISION_ENDS = re.compile(REVISION_END)
TAG_ENDS = re.compile(b">")
HEAD_ENDS = re.compile(b"</siteinfo>")


_LANGUAGE = re.compile(rb"""<mediawiki\b[^>]*\bxml:lang=["']([^"']{1,40})["']""")


_BEGINS = 512
_OTHERS = tuple(
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:" + pattern + rb")", re.IGNORECASE), what)
    for pattern, what in (
        (rb"-- (?:MySQL|MariaDB) dump|/\*M?!\d{5,6}", "a dump of a wiki's tables in SQL, which holds no articles"),
        (rb"<feed>", "the abstracts of a wiki's articles"),
        (rb"\{\"(?:index|create)\"", "a dump of CirrusSearch"),
        (rb"\[?\s*\{\"type\":\"(?:item|property|lexeme)\"", "a dump of Wikidata, which holds no articles"),
        (rb"\{\"name\":", "a dump of a wiki's pages in HTML"),
        (rb"\d+:\d+:\S", "an index of a dump, which holds no articles"),
        (rb"page_title\r?\n", "a list of titles, which holds no articles"),
        (rb"ZIM\x04", "a ZIM file"),
        (rb"<!DOCTYPE html|<html", "an HTML page"),
    )
)
"""How that begins which is offered beside dumps of articles, or which a server answers in their place."""


@dataclass(frozen=True)
class Site:
    """What the head of a dump tells of its wiki."""

    base: str = ""
    """Address below which the articles are; empty if it is not told."""
    wiki: Wiki = field(default_factory=Wiki)


def parts(source: WikiSource, file: ExternalFile, size: int) -> list[Part]:
    """`file` in parts of about `size` bytes."""
    with open_stream(Part(file), is_look=True) as stream:
        is_wide = bool(wide_encoding(stream.sample(_BEGINS)))
    return [Part(file)] if is_wide else split(file, size)


def read(source: WikiSource, part: Part, limits: Limits) -> Iterator[Found]:
    """The pages of `part` in their latest revision.

    Raises:
        Damaged: the XML breaks off, or is no MediaWiki dump.
    """
    with open_stream(Part(part.file), is_look=True) as stream:
        site = site_of(stream)
    with open_stream(part) as stream:
        if not part.begin:
            stream.recode()
        yield from guarded(_extract, _jobs(source, stream, site, limits, first=part.begin == 0), limits.seconds)


def site_of(stream: Stream) -> Site:
    """What the head of a dump tells of its wiki.

    Raises:
        Damaged: this is no MediaWiki dump.
    """
    stream.recode()
    begins = stream.sample(_BEGINS)[:_BEGINS]
    if other := next((what for mark, what in _OTHERS if mark.match(begins)), ""):
        raise Foreign(other, "use the wiki's pages-articles.xml.bz2")
    head = stream.take_through(HEAD_ENDS, HEAD)
    start = head.find(b"<siteinfo")
    if b"<mediawiki" not in begins and (told := content_of(begins)):
        raise Foreign(*told)
    if start < 0 or b"<mediawiki" not in head:
        raise Damaged("page 1", "this is no MediaWiki dump, or one that breaks off: it has no <siteinfo>")
    try:
        info = ElementTree.fromstring(head[start:])
    except ElementTree.ParseError as error:
        raise Damaged("page 1", f"malformed <siteinfo> ({error})") from None
    names = {int(space.get("key") or 0): space.text or "" for space in info.iter("namespace")}
    language = _LANGUAGE.search(head)
    code = code_of(info.findtext("dbname") or "", language[1].decode("utf-8", "replace") if language else "")
    return Site((info.findtext("base") or "").rpartition("/")[0], wiki_of(code, names))


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
        text_element = page.find("revision/text")
        markup = (text_element.text if text_element is not None else "") or ""
        identity = int(page.findtext("id") or 0)
    except (ElementTree.ParseError, ValueError) as error:
        shown = raw[:200].decode("utf-8", "replace")
        return "", {"failure": f"{error}, in {shown}"}, "failure/xml"
    url = f"{site.base}/{quote(title.replace(' ', '_'), safe='/:(),!*')}" if site.base else ""
    metadata: dict[str, Any] = {"url": url, "title": title, "page": identity}
    note_record(metadata, len(markup))
    if rule := _rule_against(page, space, markup, source, site.wiki):
        return "", metadata, rule
    if not markup and _is_stub(text_element):
        problem = "a stub: the dump says how long the text is and does not have it; use the wiki's pages-articles"
        return "", metadata | {"failure": problem}, "failure/stub"
    text, cuts, code = rendered(
        markup,
        site.wiki,
        title=title,
        drop_sections=source.drop_sections,
        variant=source.variant,
        tables=source.tables,
    )
    note_record(metadata, len(markup), title=-len(title) - 2, **cuts)
    before = f"{title}\n\n"
    note_verbatim(metadata, [(begin + len(before), end + len(before)) for begin, end in code])
    return before + text, metadata, None if len(text) >= source.min_characters else "too_short"


def _is_stub(text: ElementTree.Element | None) -> bool:
    return text is not None and text.get("bytes", "0") != "0" and text.get("deleted") is None


def _rule_against(page: ElementTree.Element, space: int, markup: str, source: WikiSource, wiki: Wiki) -> str | None:
    """The rule that rejects a page for what it is."""
    if space not in source.namespaces:
        return f"namespace/{space}"
    if source.drop_redirects and (page.find("redirect") is not None or wiki.is_redirect(markup)):
        return "redirect"
    model = page.findtext("revision/model") or "wikitext"
    return f"model/{model}" if model != "wikitext" else None
