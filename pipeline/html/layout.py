"""The text of chosen blocks: paragraphs apart, items marked, rows of tables as lines, `<pre>` as it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.html import columns as c
from pipeline.html.columns import Page
from pipeline.html.compiling import compiled, inlined

__all__ = ["Spans", "entity", "render"]

CELL = 300
"""Characters beyond which a cell holds part of a page, not an entry of a table."""
MOST_COLUMNS = 64
"""Empty cells in a row that are told."""
MOST_INDENT = 8
"""Levels of lists that are told."""
BLOCK_ROOM = 128
PIECE_ROOM = 8
"""Bytes that the marks of a block and of a piece take at most."""
_ROMAN = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X")),
    *((9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)
_ROMAN_VALUES = np.array([value for value, _ in _ROMAN], np.int64)
_ROMAN_SIGNS = np.array([[*signs.ljust(2, "\0").encode()] for _, signs in _ROMAN], np.uint8)
_MOST_ROMAN = 4000
_SPACE, _LINE, _TAB, _BACKSLASH = 32, 10, 9, 92
_NO_BREAK_SPACE = 160


Spans = list[tuple[int, int]]
"""Of a text: the first character of each, and that after its last."""


def render(page: Page, keep: npt.NDArray[np.bool_], pieces: npt.NDArray[np.bool_]) -> tuple[str, Spans]:
    """The text of the blocks to `keep`, without white space at the ends of lines outside of `<pre>`; and where that is.

    Args:
        pieces: which of their pieces are shown.
    """
    chosen = np.flatnonzero(keep)
    room = len(page.markup) + BLOCK_ROOM * (len(chosen) + 1) + PIECE_ROOM * len(page.pieces)
    out = np.empty(room, np.uint8)
    spans = np.zeros(
        (np.count_nonzero(page.pieces[:, c.KIND] >= c.PRE) + 1, 2), np.int64
    )  # the first row: their number
    length = _render(page.markup, page.pieces, page.blocks, chosen, pieces, out, spans)
    return _decoded(out[:length].tobytes(), spans[1 : 1 + spans[0, 0]].tolist())


def _decoded(data: bytes, spans: list[list[int]]) -> tuple[str, Spans]:
    """The text, and spans of bytes as such of characters."""
    if not spans:
        return data.decode("utf-8", "replace"), []
    parts: list[str] = []
    found: Spans = []
    place = length = 0
    for begin, end in spans:
        parts += [data[place:begin].decode("utf-8", "replace"), data[begin:end].decode("utf-8", "replace")]
        length += len(parts[-2])
        found.append((length, length + len(parts[-1])))
        length += len(parts[-1])
        place = end
    return "".join([*parts, data[place:].decode("utf-8", "replace")]), found


@compiled
def _render(data, pieces, blocks, chosen, shown, out, spans):  # type: ignore[no-untyped-def]  # compiled
    k = margin = following = 0
    last = -1  # the block before, among those set
    for b in chosen:
        for passed in range(following, b + 1):
            margin = max(margin, blocks[passed, c.MARGIN])
        following = b + 1
        begin = k
        if last >= 0:
            k = _between(blocks, last, b, margin, out, k)
        content = _mark(blocks[b, c.MARK], blocks[b, c.INDENT], out, k)
        end = _set(data, pieces, blocks, b, shown, out, content, spans)
        if end == content:  # nothing to be seen
            k = begin
        else:
            k, margin, last = end, 0, b
    while k > 0 and out[k - 1] <= _SPACE:
        k -= 1
    if spans[0, 0]:
        spans[spans[0, 0], 1] = min(spans[spans[0, 0], 1], k)
    return k


@inlined
def _fill(out, k, byte, times):  # type: ignore[no-untyped-def]
    for place in range(k, k + times):
        out[place] = byte
    return k + times


@compiled
def _between(blocks, last, b, margin, out, k):  # type: ignore[no-untyped-def]
    """What parts two blocks: tabs the cells of a row, a line end its rows, and what they ask for all others."""
    row, before = blocks[b, c.ROW], blocks[last, c.ROW]
    if row >= 0 and before >= 0 and blocks[b, c.CHARS] <= CELL and blocks[last, c.CHARS] <= CELL:
        columns = blocks[b, c.COLUMN] - blocks[last, c.COLUMN]
        if row == before and columns > 0:
            return _fill(out, k, _TAB, min(columns, MOST_COLUMNS))
        if row != before:
            margin = 1
    wanted = min(max(margin, 1), 2)
    while wanted and k and out[k - 1] == _LINE and (wanted == 1 or (k > 1 and out[k - 2] == _LINE)):
        return k
    return _fill(out, k, _LINE, wanted - (1 if k and out[k - 1] == _LINE else 0))


@compiled
def _mark(mark, indent, out, k):  # type: ignore[no-untyped-def]
    """The bullet or number of an item; where its text begins."""
    if not mark:
        return k
    k = _fill(out, k, _SPACE, 2 * min(max(indent - 1, 0), MOST_INDENT))
    if mark < 0:  # •
        out[k], out[k + 1], out[k + 2] = 0xE2, 0x80, 0xA2
        k += 3
    else:
        kind, number = mark >> c.NUMERALS, mark & ((1 << c.NUMERALS) - 1)
        if kind > 2 and number < _MOST_ROMAN:
            k = _roman(number, 32 if kind == 3 else 0, out, k)
        elif kind == 1 or kind == 2:
            k = _letters(number, 97 if kind == 1 else 65, out, k)
        else:
            k = _digits(number, out, k)
        out[k] = 46
        k += 1
    return _fill(out, k, _SPACE, 1)


@inlined
def _digits(number, out, k):  # type: ignore[no-untyped-def]
    size = 1
    while number // size >= 10:
        size *= 10
    while size:
        out[k] = 48 + number // size % 10
        k += 1
        size //= 10
    return k


@inlined
def _letters(number, first, out, k):  # type: ignore[no-untyped-def]
    """a to z, then aa and so on."""
    size = count = 1
    while number > size * 26:
        number -= size * 26
        size *= 26
        count += 1
    number -= 1
    for _ in range(count):
        out[k] = first + number // size
        number %= size
        size //= 26
        k += 1
    return k


@inlined
def _roman(number, case, out, k):  # type: ignore[no-untyped-def]
    for n in range(len(_ROMAN_VALUES)):
        while number >= _ROMAN_VALUES[n]:
            number -= _ROMAN_VALUES[n]
            for m in range(2):
                if _ROMAN_SIGNS[n, m]:
                    out[k] = _ROMAN_SIGNS[n, m] + case
                    k += 1
    return k


@inlined
def _set(data, pieces, blocks, b, shown, out, content, spans):  # type: ignore[no-untyped-def]
    """The text of a block from `content` on; where it ends."""
    k = content
    space = False  # due before the next character
    for p in range(blocks[b, c.PIECE], blocks[b + 1, c.PIECE] if b + 1 < len(blocks) else len(pieces)):
        kind, i, j = pieces[p, c.KIND], pieces[p, c.FROM], pieces[p, c.TO]
        if kind == c.BREAK or kind == c.SOFT:
            space = False
            if k > content and not (kind == c.SOFT and out[k - 1] == _LINE):
                k = _fill(out, k, _LINE, 1)
        elif kind == c.PRE or kind == c.RAW_PRE:
            if shown[p]:
                k = _before(out, k, content, space)
                end = _verbatim(data, i, j, kind == c.RAW_PRE, out, k)
                _note(spans, k, end)
                k = end
                space = False
        elif kind == c.TEXT:
            if shown[p]:
                k, space = _flow(data, i, j, False, out, k, content, space)
        else:
            k = _before(out, k, content, space)
            k = _formula(data, i, j, kind, out, k)
            space = False
    return k


@inlined
def _note(spans, begin, end):  # type: ignore[no-untyped-def]
    """Add a span, to the one before where it goes on."""
    count = spans[0, 0]
    if count and spans[count, 1] == begin:
        spans[count, 1] = end
    elif end > begin:
        spans[0, 0] = count + 1
        spans[count + 1, 0] = begin
        spans[count + 1, 1] = end


@inlined
def _before(out, k, content, space):  # type: ignore[no-untyped-def]
    """The space that is due, but not at the beginning of a line."""
    return _fill(out, k, _SPACE, 1) if space and k > content and out[k - 1] != _LINE else k


@compiled
def _formula(data, i, j, kind, out, k):  # type: ignore[no-untyped-def]
    r"""TeX between `\(` and `\)`, or `\[` and `\]`, unless it has marks of its own."""
    while i < j and data[i] <= _SPACE:
        i += 1
    while j > i and data[j - 1] <= _SPACE:
        j -= 1
    marked = j - i > 1 and (data[i] == 36 or (data[i] == _BACKSLASH and (data[i + 1] == 40 or data[i + 1] == 91)))
    raw = kind == c.RAW_FORMULA or kind == c.RAW_DISPLAY
    if marked or i == j:
        return _flow(data, i, j, raw, out, k, k, False)[0]
    alone = kind == c.DISPLAY or kind == c.RAW_DISPLAY
    out[k], out[k + 1] = _BACKSLASH, 91 if alone else 40
    k = _flow(data, i, j, raw, out, k + 2, k + 2, False)[0]
    out[k], out[k + 1] = _BACKSLASH, 93 if alone else 41
    return k + 2


@inlined
def entity(data, i, j):  # type: ignore[no-untyped-def]
    """The character of `&amp;`, `&lt;`, `&gt;`, `&quot;` or `&nbsp;` at i, and what follows it; 0 for no entity."""
    if i + 3 < j and data[i + 2] == 116 and data[i + 3] == 59 and (data[i + 1] == 108 or data[i + 1] == 103):
        return 60 if data[i + 1] == 108 else 62, i + 4
    if i + 4 < j and data[i + 1] == 97 and data[i + 2] == 109 and data[i + 3] == 112 and data[i + 4] == 59:
        return 38, i + 5
    if i + 5 < j and data[i + 5] == 59:
        if data[i + 1] == 113 and data[i + 2] == 117 and data[i + 3] == 111 and data[i + 4] == 116:
            return 34, i + 6
        if data[i + 1] == 110 and data[i + 2] == 98 and data[i + 3] == 115 and data[i + 4] == 112:
            return _NO_BREAK_SPACE, i + 6
    return 0, i


@inlined
def _wide(lead, second):  # type: ignore[no-untyped-def]
    """Whether a character that begins with these bytes is Chinese, Japanese or as wide; Hangul is not."""
    return 0xE3 <= lead <= 0xE9 or (lead == 0xEF and 0xBC <= second <= 0xBD)


@compiled
def _verbatim(data, i, j, raw, out, k):  # type: ignore[no-untyped-def]
    """data[i:j] to the character; its entities too if it is `raw`."""
    while i < j:
        code, after = entity(data, i, j) if data[i] == 38 and not raw else (0, i)
        if code == _NO_BREAK_SPACE:
            out[k] = 0xC2
            k += 1
        if code:
            out[k], i = code, after
        else:
            out[k], i = data[i], i + 1
        k += 1
    return k


@inlined
def _flow(data, i, j, raw, out, k, content, space):  # type: ignore[no-untyped-def]
    """data[i:j] with a space for any white space; where it ends, and whether a space is due there.

    The end of a line between two wide letters is no space (CSS Text 3, 4.1.3): Chinese and Japanese have none.
    """
    first = k
    wraps = 0  # 1: white space behind a letter of this text, 2: with the end of a line in it
    while i < j:
        byte = np.int64(data[i])
        i += 1
        if byte == 38 and not raw:
            code, after = entity(data, i - 1, j)
            if code:
                byte, i = _SPACE if code == _NO_BREAK_SPACE else code, after
        if byte <= _SPACE:
            wraps = 1 if k > first and not space else wraps
            wraps = 2 if wraps and byte == _LINE else wraps
            space = True
            continue
        if space:
            joins = wraps == 2 and k >= 3 and byte >= 0xE3 and i < j
            if not (joins and _wide(byte, data[i]) and _wide(out[k - 3], out[k - 2])):
                k = _before(out, k, content, space)
            space, wraps = False, 0
        if byte == 0xC2 and i < j and data[i] == 0xAD:  # a soft hyphen says where a word may be parted
            i += 1
            continue
        out[k] = byte
        k += 1
    return k, space
