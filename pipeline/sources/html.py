"""Text out of HTML: Resiliparse builds the tree as browsers do, `pipeline.html` makes text of it.

All of it takes time in proportion to the page, however deep its elements are nested; very deep ones are refused all the
same, for nothing that a person wrote is.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from resiliparse.parse.html import HTMLTree

from pipeline.html.closing import as_html, is_xhtml
from pipeline.html.content import left_out, main_blocks, shown
from pipeline.html.layout import Spans, render
from pipeline.html.mathml import has_formulas, with_tex
from pipeline.html.scan import scan
from pipeline.html.slimming import slimmed

__all__ = ["MOST_DEPTH", "PageText", "TooDeep", "prepare", "read_page", "text_of"]

MOST_DEPTH = 1000
"""Nested elements beyond which a page is refused. Blink, for one, stops nesting at 512."""


class TooDeep(Exception):  # noqa: N818  (a finding about the page)
    """The elements of a page are nested too deep."""


class PageText(NamedTuple):
    """What a page says."""

    title: str
    text: str
    """As it is set: paragraphs apart, items marked, rows of tables as lines with tabs, formulas as TeX in `\\(...\\)`,
    and preformatted text to the character. Needs no tidying, which would spoil the latter."""
    navigation: int
    """Characters of what is shown on the page and left out as no part of its content."""
    verbatim: Spans
    """Where the text is preformatted."""


@cache
def prepare() -> None:
    """Have the loops compiled, which takes half a minute once on a machine: no page is to pay for that."""
    for main_content in (True, False):
        read_page("<p>a</p>", main_content=main_content)


def text_of(html: str, *, main_content: bool) -> tuple[str, str]:
    """Title and text of a page, as `read_page` gives them."""
    page = read_page(html, main_content=main_content)
    return page.title, page.text


def read_page(html: str, *, main_content: bool, xhtml: bool = False) -> PageText:
    """Title and text of a page; `main_content` leaves out navigation, banners, footers, comments.

    Args:
        xhtml: it is known to be XHTML; a page that says so itself is taken for it anyway.

    Raises:
        TooDeep: it is nested more than `MOST_DEPTH` deep.
    """
    if xhtml or is_xhtml(html):
        html = as_html(html)
    tree = HTMLTree.parse(_slimmed(html))
    body = tree.body
    page = scan(body.outer_html if body else str(tree))
    if page.depth > MOST_DEPTH:
        raise TooDeep(f"elements nested more than {MOST_DEPTH} deep")
    title = " ".join((tree.title or "").split())
    blocks, pieces = main_blocks(page) if main_content else shown(page)
    text, verbatim = render(page, blocks, pieces)
    return PageText(title, text, left_out(page, blocks), verbatim)


def _slimmed(html: str) -> str:
    """Without what no text comes of, formulas as TeX. They are looked for in what is left, and made of the whole."""
    slim = slimmed(html)
    whole = with_tex(html) if has_formulas(slim) else html
    return slim if whole == html else slimmed(whole)
