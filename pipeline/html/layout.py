"""The text of chosen blocks as a person would set it: paragraphs apart, items marked, rows as lines, `<pre>` as it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.html.scan import (
    BREAK,
    CHARS,
    COLUMN,
    DISPLAY,
    FORMULA,
    FROM,
    INDENT,
    KIND,
    MARGIN,
    MARK,
    PIECE,
    PRE,
    RAW_DISPLAY,
    RAW_FORMULA,
    RAW_PRE,
    ROW,
    SOFT,
    TO,
    Page,
)

__all__ = ["render"]

CELL = 300
"""Characters beyond which a cell holds part of a page, not an entry of a table."""
MOST_COLUMNS = 64
"""Empty cells in a row that are told."""
MOST_INDENT = 8
"""Levels of lists that are told."""
BLOCK_ROOM = 128
PIECE_ROOM = 8
"""Bytes that the marks of a block and of a piece take at most."""
_BULLET = np.frombuffer("• ".encode(), np.uint8)


def render(page: Page, keep: npt.NDArray[np.bool_], pieces: npt.NDArray[np.bool_]) -> str:
    """The text of the blocks to `keep`, without white space at the ends of lines outside of `<pre>`.

    Args:
        pieces: which of their pieces are shown.
    """
    chosen = np.flatnonzero(keep)
    room = len(page.markup) + BLOCK_ROOM * (len(chosen) + 1) + PIECE_ROOM * len(page.pieces)
    out = np.empty(room, np.uint8)
    length = _render(page.markup, page.pieces, page.blocks, chosen, pieces, out, _BULLET)
    return out[:length].tobytes().decode("utf-8", "replace")


@njit(cache=True)
def _entity(data, i, end):  # type: ignore[no-untyped-def]  # compiled: Numba infers the types
    """The character of `&amp;`, `&lt;`, `&gt;`, `&quot;` or `&nbsp;` at i, and what follows it; 0 for no entity."""
    if i + 3 < end and data[i + 2] == 116 and data[i + 3] == 59:
        if data[i + 1] == 108:
            return 60, i + 4
        if data[i + 1] == 103:
            return 62, i + 4
    if i + 4 < end and data[i + 1] == 97 and data[i + 2] == 109 and data[i + 3] == 112 and data[i + 4] == 59:
        return 38, i + 5
    if i + 5 < end and data[i + 5] == 59:
        if data[i + 1] == 113 and data[i + 2] == 117 and data[i + 3] == 111 and data[i + 4] == 116:
            return 34, i + 6
        if data[i + 1] == 110 and data[i + 2] == 98 and data[i + 3] == 115 and data[i + 4] == 112:
            return 160, i + 6
    return 0, i


@njit(cache=True)
def _number(value, out, k):  # type: ignore[no-untyped-def]
    """`value` and a full stop."""
    size = 1
    while size < value // 10 + 1 and value // size >= 10:
        size *= 10
    while size:
        out[k] = 48 + value // size % 10
        k += 1
        size //= 10
    out[k] = 46
    out[k + 1] = 32
    return k + 2


@njit(cache=True)
def _lines(out, k, wanted):  # type: ignore[no-untyped-def]
    """So many line ends at k, those that stand there counted."""
    for back in range(wanted):
        if k - 1 - back < 0 or out[k - 1 - back] != 10:
            out[k : k + wanted - back] = 10
            return k + wanted - back
    return k


@njit(cache=True)
def _render(data, pieces, blocks, chosen, shown, out, bullet):  # type: ignore[no-untyped-def]
    k = 0
    margin = 0
    last = -1  # the block before, among those set
    following = 0
    for number in range(len(chosen)):
        b = chosen[number]
        for passed in range(following, b + 1):
            margin = max(margin, blocks[passed, MARGIN])
        following = b + 1
        begin = k
        if last >= 0:
            small = blocks[b, CHARS] <= CELL and blocks[last, CHARS] <= CELL
            row, before = blocks[b, ROW], blocks[last, ROW]
            if small and row >= 0 and row == before and blocks[b, COLUMN] > blocks[last, COLUMN]:
                columns = min(blocks[b, COLUMN] - blocks[last, COLUMN], MOST_COLUMNS)
                out[k : k + columns] = 9
                k += columns
            else:
                if small and row >= 0 and before >= 0 and row != before and margin < 3:
                    margin = 1
                k = _lines(out, k, min(margin, 2) if margin else 1)
        if blocks[b, MARK]:
            spaces = 2 * min(max(blocks[b, INDENT] - 1, 0), MOST_INDENT)
            out[k : k + spaces] = 32
            k += spaces
            if blocks[b, MARK] < 0:
                out[k : k + len(bullet)] = bullet
                k += len(bullet)
            else:
                k = _number(blocks[b, MARK], out, k)
        content = k
        space = False
        for p in range(blocks[b, PIECE], blocks[b + 1, PIECE] if b + 1 < len(blocks) else len(pieces)):
            kind = pieces[p, KIND]
            if not shown[p] and (kind == 0 or kind == PRE):
                continue
            i, end = pieces[p, FROM], pieces[p, TO]
            if kind == BREAK or kind == SOFT:
                space = False
                if k > content and not (kind == SOFT and out[k - 1] == 10):
                    out[k] = 10
                    k += 1
                continue
            if kind == PRE or kind == RAW_PRE:
                if space and k > content and out[k - 1] != 10:
                    out[k] = 32
                    k += 1
                space = False
                while i < end:
                    code, after = _entity(data, i, end) if kind == PRE and data[i] == 38 else (0, i)
                    if code == 160:
                        out[k] = 194
                        out[k + 1] = 160
                        k += 2
                        i = after
                    elif code:
                        out[k] = code
                        k += 1
                        i = after
                    else:
                        out[k] = data[i]
                        k += 1
                        i += 1
                continue
            opening = closing = 0
            if kind == FORMULA or kind == RAW_FORMULA or kind == DISPLAY or kind == RAW_DISPLAY:
                while i < end and data[i] <= 32:
                    i += 1
                while end > i and data[end - 1] <= 32:
                    end -= 1
                if end > i and data[i] != 36 and not (data[i] == 92 and (data[i + 1] == 40 or data[i + 1] == 91)):
                    opening = 40 if kind == FORMULA or kind == RAW_FORMULA else 91
                    closing = opening + 1 if opening == 40 else 93
                if space and k > content and out[k - 1] != 10:
                    out[k] = 32
                    k += 1
                space = False
                if opening:
                    out[k] = 92
                    out[k + 1] = opening
                    k += 2
            raw = kind == RAW_FORMULA or kind == RAW_DISPLAY
            while i < end:
                byte = np.int64(data[i])
                if byte <= 32:
                    space = True
                    i += 1
                    continue
                if byte == 38 and not raw:
                    code, after = _entity(data, i, end)
                    if code == 160:
                        space = True
                        i = after
                        continue
                    if code:
                        byte = code
                        i = after - 1
                if space:
                    if k > content and out[k - 1] != 10:
                        out[k] = 32
                        k += 1
                    space = False
                out[k] = byte
                k += 1
                i += 1
            if opening:
                space = False
                out[k] = 92
                out[k + 1] = closing
                k += 2
        if k == content:  # nothing to be seen
            k = begin
            continue
        margin = 0
        last = b
    while k > 0 and out[k - 1] <= 32:
        k -= 1
    return k
