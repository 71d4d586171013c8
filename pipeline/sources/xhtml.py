"""Pages of EPUBs: what XML allows and HTML does not (entities of their own, prefixes), and readings beside their base.

The parser is XML's, of the standard library, and never sees a document type: entities that one defines are put in
here, within bounds, and no others are looked for. What is not well-formed is left to `pipeline.html.closing`.
"""

from __future__ import annotations

import html.entities
import re
from xml.etree import ElementTree

from pipeline.html.closing import SUBSET

__all__ = ["TooManyEntities", "mended", "resolved"]

_DOCTYPE = re.compile(rf"<!DOCTYPE\b[^\[\]<>]{{0,1000}}(?:\[(?P<subset>{SUBSET})\]\s{{0,100}})?>", re.IGNORECASE)
_COMMENT = re.compile(r"<!--(?:[^-]|-(?!->))*+-->")
_BARE = re.compile(r"&(?!#?\w{1,100};)")
_TYPE = "{http://www.idpf.org/2007/ops}type"
_ENTITY = re.compile(r"<!ENTITY\s{1,50}([\w.:-]{1,100})\s{1,50}(?:\"([^\"]{0,10000})\"|'([^']{0,10000})')\s{0,50}>")
_REFERENCE = re.compile(r"&([A-Za-z_][\w.:-]{0,100});")
_OF_XML = frozenset({"amp", "lt", "gt", "quot", "apos"})
LONGEST = 10_000
"""Characters of an entity, with those that it is made of put in."""
MOST_ENTITIES = 1000
FREE = 100_000
"""Characters that entities may add to a page beyond as many as it has."""
HEAD = 20_000
"""Characters in which a document type begins."""


class TooManyEntities(ValueError):  # noqa: N818  (a finding about the page)
    """The entities of a page become more than the page."""


def resolved(page: str, *, readings: bool = False) -> str:
    """A page in HTML's syntax; where it is not well-formed, with its entities put in and else as it is.

    Args:
        readings: keep the readings of ruby, in brackets behind their base.

    Raises:
        TooManyEntities: its own entities become more than the page itself.
    """
    page = _with_entities(page)
    try:
        root = ElementTree.fromstring(page)
        for element in root.iter():
            if isinstance(element.tag, str):
                element.tag = element.tag.rpartition("}")[2]
            if "pagebreak" in f"{element.get(_TYPE)} {element.get('role')}":  # the number of a printed page
                element.text = ""
                element[:] = []
        _settle_ruby(root, readings)
        return ElementTree.tostring(root, encoding="unicode", method="html")
    except (ElementTree.ParseError, ValueError, RecursionError):
        return page


def mended(document: str) -> str:
    """An XML document with the entities of HTML put in, and a bare ampersand as a character."""
    return _BARE.sub("&amp;", _with_entities(document))


def _with_entities(page: str) -> str:
    """`page` without its document type, and with the entities that this, or HTML, defines put in."""
    doctype = _DOCTYPE.search(page, 0, HEAD + (1 << 17))
    own = _entities(_COMMENT.sub("", doctype["subset"] or "")) if doctype and doctype.start() < HEAD else {}
    if doctype and doctype.start() < HEAD:
        page = page[: doctype.start()] + page[doctype.end() :]
    room = len(page) + FREE
    for match in _REFERENCE.finditer(page):
        room -= len(own.get(match[1], ""))
    if room < 0:
        raise TooManyEntities("its entities become more than the page")
    return _REFERENCE.sub(lambda match: _value(match, own), page)


def _entities(subset: str) -> dict[str, str]:
    own: dict[str, str] = {}
    for match in _ENTITY.finditer(subset):
        value = _REFERENCE.sub(lambda inner: own.get(inner[1], inner[0]), match[2] or match[3] or "")
        if match[1] not in own and len(value) <= LONGEST and len(own) < MOST_ENTITIES:
            own[match[1]] = value
    return own


def _value(match: re.Match[str], own: dict[str, str]) -> str:
    name = match[1]
    if name in own:
        return own[name]
    if name in _OF_XML:
        return match[0]
    return html.entities.html5.get(f"{name};", f"&amp;{name};")


def _settle_ruby(root: ElementTree.Element, readings: bool) -> None:
    """Take the readings of ruby out, or put each in brackets once."""
    gone = {"rp"} if readings else {"rp", "rt", "rtc"}
    for parent in list(root.iter()):
        children = list(parent)
        for child in children:
            if child.tag == "rt" and readings:
                child.tag, child.text, child.tail = "span", f"({child.text or ''}", f"){child.tail or ''}"
        if any(child.tag in gone for child in children):
            _keep(parent, children, gone)


def _keep(parent: ElementTree.Element, children: list[ElementTree.Element], gone: set[str]) -> None:
    """Take the children of some names out of their parent, and leave the text behind them."""
    kept: list[ElementTree.Element] = []
    texts = [[parent.text or ""]]
    for child in children:
        if child.tag not in gone:
            kept.append(child)
            texts.append([])
        texts[-1].append(child.tail or "")
    parent[:] = kept
    parent.text = "".join(texts[0])
    for child, parts in zip(kept, texts[1:], strict=True):
        child.tail = "".join(parts)
