"""Where the reading of a page is, and the pieces and blocks that it makes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.html import columns as c
from pipeline.html.compiling import compiled, inlined
from pipeline.html.search import has

__all__ = ["Tables", "block", "formula", "piece", "text"]  # and the names of the columns

# What holds in an open element: its number and the hash of its name; whether text in it is hidden (1) and formulas too
# (2), whether it stands in SVG or MathML, a link or preformatted text; the block element, the depth of lists, the next
# number of an item (-1: a bullet), the row and the column that it stands in.
NUMBER, HASH, HIDE, FOREIGN, LINK, PRE, BLOCK, LIST, ITEM, ROW, COLUMN = range(11)
# Where the reading is: open elements; elements, pieces, blocks so far; the open block or -1; what is due to the next
# block; line ends in a row; characters so far; the open formula, and what it had before; bytes and kind of its TeX;
# whether that comes next; bytes of the formula before.
DEPTH, ELEMENTS, PIECES, BLOCKS, OPEN, MARGIN, MARK, INDENT, BREAKS, TEXT, LINKED = range(11)
MATH, MATH_PIECE, MATH_TEXT, TEX0, TEX1, TEX_KIND, ANNOTATION, LAST0, LAST1 = range(11, 20)


class Tables(NamedTuple):
    """What is read, by bytes and by eights, what is written, and where the reading is."""

    data: npt.NDArray[np.uint8]
    eights: npt.NDArray[np.uint64]
    elements: npt.NDArray[np.int32]
    flags: npt.NDArray[np.int64]
    pieces: npt.NDArray[np.int32]
    blocks: npt.NDArray[np.int32]
    stack: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    said: npt.NDArray[np.int64]


@inlined
def block(t):  # type: ignore[no-untyped-def]
    """The open block, begun if there is none."""
    at = t.at
    if at[OPEN] < 0:
        b = at[BLOCKS]
        depth = at[DEPTH]
        for column in range(c.OF_BLOCK):
            t.blocks[b, column] = 0
        t.blocks[b, c.ELEMENT] = t.stack[depth, BLOCK]
        t.blocks[b, c.PIECE] = at[PIECES]
        t.blocks[b, c.MARGIN] = at[MARGIN]
        t.blocks[b, c.MARK] = at[MARK]
        t.blocks[b, c.INDENT] = at[INDENT]
        t.blocks[b, c.ROW] = t.stack[depth, ROW]
        t.blocks[b, c.COLUMN] = t.stack[depth, COLUMN]
        at[MARGIN] = at[MARK] = 0
        at[OPEN] = b
        at[BLOCKS] = b + 1
    return at[OPEN]


@inlined
def piece(t, kind, i, j, element):  # type: ignore[no-untyped-def]
    p = t.at[PIECES]
    t.pieces[p, c.KIND] = kind
    t.pieces[p, c.FROM] = i
    t.pieces[p, c.TO] = j
    t.pieces[p, c.WITHIN] = element
    t.at[PIECES] = p + 1


@inlined
def text(t, i, j):  # type: ignore[no-untyped-def]
    """The text data[i:j] as a piece of the open block; white space begins none, but in preformatted text."""
    at, depth = t.at, t.at[DEPTH]
    seen = i
    while seen < j and (t.data[seen] <= 32 or (t.data[seen] == 38 and has(t.data, seen, min(seen + 6, j), b"&nbsp;"))):
        seen += 1 if t.data[seen] <= 32 else 6
    if seen == j and at[OPEN] < 0 and not t.stack[depth, PRE]:
        return
    number = block(t)
    piece(t, c.PRE if t.stack[depth, PRE] else c.TEXT, i, j, t.stack[depth, NUMBER])
    if seen < j:
        at[BREAKS] = 0
        chars = _count(t.data, seen, j, t.blocks, number)
        at[TEXT] += chars
        if t.stack[depth, LINK]:
            at[LINKED] += chars
            t.blocks[number, c.LINKED] += chars


@inlined
def _count(data, i, j, blocks, block):  # type: ignore[no-untyped-def]
    """Add to the counts of a block those of data[i:j]; its characters."""
    chars = words = commas = stops = digits = capitals = last = 0
    space = True
    for k in range(i, j):
        byte = data[k]
        if byte <= 32:
            space = True
            continue
        words += space
        space = False
        if byte < 128:
            chars += 1
            last = byte
            digits += 48 <= byte <= 57
            capitals += 65 <= byte <= 90
            commas += byte == 44
            stops += byte == 46 or byte == 33 or byte == 63
        elif byte >= 224:
            chars += 3
            last = byte
            if k + 2 < j and (byte == 227 or byte == 239):
                mark = np.int64(data[k + 1]) << 8 | data[k + 2]
                if (byte == 227 and mark == 0x8081) or (byte == 239 and mark == 0xBC8C):  # 、，
                    commas += 1
                elif (byte == 227 and mark == 0x8082) or (byte == 239 and (mark == 0xBC81 or mark == 0xBC9F)):  # 。！？
                    stops += 1
                    last = 46
        elif byte >= 192:
            chars += 1
            last = byte
    blocks[block, c.CHARS] += chars
    blocks[block, c.WORDS] += words
    blocks[block, c.COMMAS] += commas
    blocks[block, c.STOPS] += stops
    blocks[block, c.DIGITS] += digits
    blocks[block, c.CAPITALS] += capitals
    blocks[block, c.LAST] = last
    return chars


@compiled
def formula(t, kind, i, j):  # type: ignore[no-untyped-def]
    """A formula, or other text of one piece, at data[i:j]."""
    at = t.at
    number = block(t)
    piece(t, kind, i, j, t.stack[at[DEPTH], NUMBER])
    t.blocks[number, c.CHARS] += j - i
    t.blocks[number, c.WORDS] += 1
    at[TEXT] += j - i
    at[LAST0], at[LAST1] = i, j
    at[TEX0] = at[TEX1] = at[BREAKS] = 0
