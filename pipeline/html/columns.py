"""The columns of the tables that a page is read into, and what stands in them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.html.names import CLASSES

__all__ = ["Page"]  # and the names of the columns

TAG, PARENT, TEXT0, TEXT1, LINK0, LINK1, BLOCK0, BLOCK1 = range(8)
"""Of an element: its tag and parent; characters, linked characters and blocks before it and up to its end."""
KIND, FROM, TO, WITHIN = range(4)
"""Of a piece: what it is, its bytes, its element."""
TEXT, BREAK, FORMULA, DISPLAY, SOFT, RAW_FORMULA, RAW_DISPLAY, PRE, RAW_PRE = range(9)
"""Kinds of pieces: text, a line end, a formula, one that stands alone, a line end in preformatted text where none is
yet, formulas of which the bytes are no markup; preformatted text, and that of which the bytes are no markup."""
ELEMENT, PIECE, MARGIN, MARK, INDENT, ROW, COLUMN = range(7)
"""Of a block: its element and first piece; lines before it; number or bullet (-1) and depth of a list's item, row and
column of a table's cell."""
NUMERALS = 24
"""Bit of an item's mark from which on it is told how its number is written: in digits (0), as a, A, i or I."""
CHARS, LINKED, WORDS, COMMAS, STOPS, DIGITS, CAPITALS, LAST, LINKS = range(7, 16)
"""Counts of a block: characters (a wide one for three, as it says as much), those in links, and so on; its last byte;
its links."""
OF_ELEMENT, OF_PIECE, OF_BLOCK = 8, 4, 16
"""How many columns each has."""
HIDDEN = 1 << 30
"""Flag of an element that is not shown, by its style or attribute."""
ARTICLE_BODY = 1 << 31
"""Flag of an element that is the body of an article, by its `itemprop`."""
CLASS_FLAGS = {name: 1 << bit for bit, name in enumerate(CLASSES)}


class Page(NamedTuple):
    """The tables of a page."""

    markup: npt.NDArray[np.uint8]
    """The serialised tree, UTF-8."""
    elements: npt.NDArray[np.int32]
    flags: npt.NDArray[np.int64]
    """What the classes of each element tell, its own alone."""
    pieces: npt.NDArray[np.int32]
    blocks: npt.NDArray[np.int32]
    depth: int
    """Most elements within each other."""
