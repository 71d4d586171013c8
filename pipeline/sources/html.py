"""Text out of HTML by Resiliparse, which is fast and has one weakness: its time grows with the square of the nesting.

A page nested 10,000 deep takes it 5 seconds and one nested 100,000 deep forever, so the depth is looked at first: a
bound from the tags, at the speed of NumPy, and only where that is large the tree itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

__all__ = ["MOST_DEPTH", "TooDeep", "text_of"]

MOST_DEPTH = 1000
"""Nested elements beyond which a page is refused. Blink, for one, stops nesting at 512."""
_TAG, _SLASH, _MARK = ord("<"), ord("/"), ord("!")


class TooDeep(Exception):  # noqa: N818  (a finding about the page)
    """The elements of a page are nested too deep."""


def text_of(html: str, *, main_content: bool) -> tuple[str, str]:
    """Title and text of a page; `main_content` leaves out navigation, banners and footers.

    Raises:
        TooDeep: it is nested more than `MOST_DEPTH` deep.
    """
    tree = HTMLTree.parse(html)
    if _bound(html) > MOST_DEPTH and _is_deeper(tree, MOST_DEPTH):
        raise TooDeep(f"elements nested more than {MOST_DEPTH} deep")
    title = " ".join((tree.title or "").split())
    return title, str(extract_plain_text(tree, main_content=main_content))


def _bound(html: str) -> int:
    """No less than the depth: as if only end tags ended elements, each a single one."""
    if (count := html.count("<")) <= MOST_DEPTH:
        return count
    points = np.frombuffer(html.encode("utf-8", "replace"), dtype=np.uint8)
    places = np.flatnonzero(points[:-1] == _TAG)
    after = points[places + 1]
    steps = np.where(after == _SLASH, -1, np.where(after == _MARK, 0, 1))
    levels = np.concatenate(([0], np.cumsum(steps)))
    # End tags that end nothing must not pay for others: take the highest rise, not the highest level.
    return int((levels - np.minimum.accumulate(levels)).max())


def _is_deeper(tree: Any, most: int) -> bool:
    node, depth = tree.document, 0
    while node is not None:
        if child := node.first_child:
            node, depth = child, depth + 1
            if depth > most:
                return True
            continue
        while node is not None and not (following := node.next):
            node, depth = node.parent, depth - 1
        node = following if node is not None else None
    return False
