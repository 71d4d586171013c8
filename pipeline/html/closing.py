"""XHTML in the syntax of HTML, where `<title/>` would begin a title that ends nowhere.

Tolerant on purpose: most of what calls itself XHTML is not well-formed, and was never read but as HTML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from pipeline.html.names import TAG_TRAITS, TAGS, VOID

__all__ = ["SUBSET", "as_html", "is_xhtml"]

HEAD = 2048
"""Characters in which a page says that it is XHTML."""
_XHTML = re.compile(
    r"\s{0,100}(?:<\?xml\s|(?:<!--(?:[^-]|-(?!->)){0,1000}-->\s{0,100})?<!DOCTYPE[^>]{0,200}\bXHTML\b)", re.I
)
_VOID = frozenset(name for name, number in TAGS.items() if TAG_TRAITS[number] & VOID)
# XML has no `<` in attributes: so an attempt ends at the next one at the latest, and nothing is tried twice.
_SELF_CLOSING = re.compile(
    r"""<([A-Za-z][^\s<>/"'=]*+)((?:\s++[^\s<>/="']++(?:\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'))?+)*+)\s*+/>"""
)
_DOCTYPE = re.compile(r"<!DOCTYPE\b", re.IGNORECASE)
SUBSET = r"""(?:[^\]"'<]|"[^"]*+"|'[^']*+'|<!--(?:[^-]|-(?!->))*+-->|<\?(?:[^?]|\?(?!>))*+\?>|<(?!!--|\?))*+"""
"""What an XML document type declares in brackets: one within a string, a comment or an instruction ends nothing."""
_WITH_SUBSET = re.compile(rf"<!DOCTYPE\b[^\[\]<>]{{0,1000}}\[{SUBSET}\]\s{{0,100}}>", re.IGNORECASE)
_CDATA, _CDATA_END = "<![CDATA[", "]]>"


def is_xhtml(page: str) -> bool:
    """Whether a page says that it is XHTML, by an XML declaration or its document type."""
    head = page[:HEAD].removeprefix("\ufeff")
    lower = head.lower()
    return ("<?xml" in lower or "xhtml" in lower) and _XHTML.match(head) is not None


def as_html(page: str) -> str:
    """The page with an end tag for each element that closes itself, and without what only XML has."""
    page = "".join(_with_end_tags(page))
    if _CDATA in page:
        page = "".join(_character_data(page))
    doctype = _DOCTYPE.search(page, 0, HEAD)
    if doctype and (subset := _WITH_SUBSET.match(page, doctype.start())):
        page = page[: subset.start()] + page[subset.end() :]
    return page


def _with_end_tags(page: str) -> Iterator[str]:
    """The page in pieces. Most tags do not close themselves: those that do are found by their ends."""
    done = end = 0
    while (found := page.find("/>", end)) >= 0:
        begin = page.rfind("<", end, found)
        end = found + 2
        if begin >= 0 and (tag := _SELF_CLOSING.match(page, begin)):
            end = tag.end()
            if tag[1].lower() not in _VOID:
                yield page[done : tag.end(2)]
                yield f"></{tag[1]}>"
                done = end
    yield page[done:]


def _character_data(page: str) -> list[str]:
    """The page in pieces, sections of character data as text."""
    pieces, place = [], 0
    while (begin := page.find(_CDATA, place)) >= 0 and (end := page.find(_CDATA_END, begin)) >= 0:
        pieces += [page[place:begin], html.escape(page[begin + len(_CDATA) : end], quote=False)]
        place = end + len(_CDATA_END)
    return [*pieces, page[place:]]
