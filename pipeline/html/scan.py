"""A page as tables: elements, pieces of text, and the blocks that these make up, in one pass over its markup.

What is read is the serialised form of a parsed tree (HTML standard, 13.3): every element is closed, attributes stand in
double quotes, and `<` is found nowhere else but in scripts and their like. So a loop over the bytes sees what a walk
over the tree would see, some thirty times as fast as one from Python.

A block is text that no element parts: a paragraph, a heading, a cell, an item. Its pieces are runs of text, line ends
and formulas.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, uint64

from pipeline.html.names import (
    ATTRIBUTES,
    BLOCK,
    CLASSES,
    GAP,
    MASKS,
    NEXT,
    RAW,
    SKIPPED,
    TAG_HASHES,
    TAG_IDS,
    TAG_TRAITS,
    TAGS,
    VOID,
    fnv,
)

__all__ = ["Page", "scan"]

# Columns of the tables.
TAG, PARENT, TEXT0, TEXT1, LINK0, LINK1, BLOCK0, BLOCK1 = range(8)
"""Of an element: its tag and parent; characters, linked characters and blocks before it and up to its end."""
KIND, FROM, TO, WITHIN = range(4)
"""Of a piece: what it is, its bytes, its element."""
(
    *(ELEMENT, PIECE, MARGIN, MARK, INDENT, ROW, COLUMN, CHARS, LINKED, WORDS, COMMAS, STOPS, DIGITS, CAPITALS, LAST, LINKS),
) = range(16)  # fmt: skip
"""Of a block: its element and first piece; lines before it; item mark and depth; row and column of a table; counts."""
TEXT, BREAK, FORMULA, DISPLAY, SOFT, PRE, RAW_FORMULA, RAW_DISPLAY, RAW_PRE = range(9)
"""Kinds of pieces."""
DEEPEST = 1023
"""Elements within each other at which reading ends."""

HIDDEN = 1 << 30
"""Not shown, by its style or attribute."""
ARTICLE_BODY = 1 << 31
_EDGE = 0
_FLAG = {name: 1 << bit for bit, name in enumerate(CLASSES)}
_F_MATH, _F_NUMBER, _F_RENDERED = _FLAG["math"], _FLAG["number"], _FLAG["rendered"]
_F_LINE = _F_NUMBER | _FLAG["anchor"]
_H = {name: np.uint64(value) for name, value in ATTRIBUTES.items()}
_H_CLASS, _H_ID, _H_ROLE, _H_ITEMPROP, _H_STYLE, _H_HIDDEN, _H_ARIA = (
    _H[name] for name in ("class", "id", "role", "itemprop", "style", "hidden", "aria-hidden")
)
_H_TYPE, _H_ALT, _H_ALTTEXT, _H_DISPLAY, _H_ENCODING, _H_SRC, _H_START = (
    _H[name] for name in ("type", "alt", "alttext", "display", "encoding", "src", "start")
)
_T_A, _T_BR, _T_IMG, _T_MATH, _T_SCRIPT, _T_PRE, _T_LI, _T_OL, _T_UL = (
    TAGS[name] for name in ("a", "br", "img", "math", "script", "pre", "li", "ol", "ul")
)
_T_TR, _T_TD, _T_TH, _T_TABLE, _T_SVG, _T_ANNOTATION, _T_FOREIGN = (
    TAGS[name] for name in ("tr", "td", "th", "table", "svg", "annotation", "foreignobject")
)
_T_MENU, _T_DIR, _T_LISTING, _T_MJX, _T_ANNOTATION_XML, _T_XMP, _T_PLAINTEXT = (
    TAGS[name] for name in ("menu", "dir", "listing", "mjx-container", "annotation-xml", "xmp", "plaintext")
)
_T_DIV, _T_P = TAGS["div"], TAGS["p"]
_ONES, _HIGHS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_BASIS, _PRIME = np.uint64(fnv(b"")), np.uint64(0x100000001B3)


def _classes() -> npt.NDArray[np.uint8]:
    """Symbol of each byte, for the automaton."""
    symbols = np.zeros(256, np.uint8)
    for letter in range(26):
        symbols[ord("a") + letter] = symbols[ord("A") + letter] = letter + 1
    symbols[ord("0") : ord("9") + 1] = 27
    return symbols


_SYMBOL = _classes()


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


def scan(markup: str) -> Page:
    """The tables of a serialised tree."""
    data = np.frombuffer(markup.encode("utf-8", "replace"), np.uint8)
    eights = data[: len(data) & ~7].view(np.uint64)
    tags = markup.count("<") + 1
    elements, flags = np.empty((tags, 8), np.int32), np.empty(tags, np.int64)
    pieces, blocks = np.empty((2 * tags + 1, 4), np.int32), np.empty((2 * tags + 1, 16), np.int32)
    e, p, b, deepest = _scan(data, eights, elements, flags, pieces, blocks, TAG_HASHES, TAG_IDS, TAG_TRAITS, NEXT, MASKS, _SYMBOL)
    return Page(data, elements[:e], flags[:e], pieces[:p], blocks[:b], int(deepest))


@njit(cache=True)
def _walk(data, i, j, next_state, masks, symbols):  # type: ignore[no-untyped-def]  # compiled: Numba infers the types
    """What the words of data[i:j] tell."""
    state = abs(np.int64(next_state[0, _EDGE]))
    found = np.int64(0)
    small = False
    for k in range(i, j):
        byte = data[k]
        if small and 65 <= byte <= 90:
            state = np.int64(next_state[state, _EDGE])
            if state < 0:
                state = -state
                found |= masks[state]
        small = 97 <= byte <= 122
        state = np.int64(next_state[state, symbols[byte]])
        if state < 0:
            state = -state
            found |= masks[state]
    return found | masks[abs(np.int64(next_state[state, _EDGE]))]


@njit(cache=True)
def _has(data, i, j, word):  # type: ignore[no-untyped-def]
    """Whether data[i:j] has `word`, of small letters, whatever its case."""
    n = len(word)
    for k in range(i, j - n + 1):
        same = True
        for m in range(n):
            byte = data[k + m]
            if 65 <= byte <= 90:
                byte += 32
            if byte != word[m]:
                same = False
                break
        if same:
            return True
    return False


@njit(cache=True)
def _hides(data, i, j):  # type: ignore[no-untyped-def]
    """Whether the style data[i:j] hides its element."""
    return (
        _has(data, i, j, b"display:none")
        or _has(data, i, j, b"display: none")
        or _has(data, i, j, b"visibility:hidden")
        or _has(data, i, j, b"visibility: hidden")
    )


@njit(cache=True)
def _is_letter(data, i, j):  # type: ignore[no-untyped-def]
    """Whether the text that stands for a picture is one letter, as of an initial, or one sign, as an emoji."""
    return j - i == 1 or (0 < j - i <= 8 and data[i] >= 192)


@njit(cache=True)
def _find(data, eights, i, n, byte):  # type: ignore[no-untyped-def]
    """Where `byte` stands from i on, or n; `eights` are the same bytes by eights, of which each costs one step."""
    while i < n and i & 7:
        if data[i] == byte:
            return i
        i += 1
    word = i >> 3
    pattern = _ONES * uint64(byte)
    while word < len(eights):
        rest = eights[word] ^ pattern
        if (rest - _ONES) & ~rest & _HIGHS:  # one of its bytes is 0 (Mycroft 1987)
            break
        word += 1
    i = max(i, word << 3)
    while i < n and data[i] != byte:
        i += 1
    return i


@njit(cache=True)
def _ends_comment(data, i, j):  # type: ignore[no-untyped-def]
    """Whether data[i:j] has `-->`."""
    for k in range(i + 2, j):
        if data[k] == 62 and data[k - 1] == 45 and data[k - 2] == 45:
            return True
    return False


@njit(cache=True)
def _raw_end(data, eights, i, n, name, length):  # type: ignore[no-untyped-def]
    """Where the end tag of a raw element stands whose content begins at i and whose name is data[name:name + length].

    In a comment inside of a script, a script within the script is part of it (HTML standard, 13.2.5.17 and after).
    """
    escaped = doubled = False
    script = length == 6 and data[name + 1] == 99  # the c of script
    begin = i
    while True:
        k = _find(data, eights, i, n, 60)
        if k >= n:
            return n
        if escaped and _ends_comment(data, begin, k):
            escaped = doubled = False
        i = k + 1
        if script and k + 3 < n and data[k + 1] == 33 and data[k + 2] == 45 and data[k + 3] == 45:
            escaped = True
            begin = k + 2
            continue
        begin = max(begin, k - 1) if escaped else begin
        closing = k + 1 < n and data[k + 1] == 47
        at = k + 2 if closing else k + 1
        if at + length >= n or not (closing or (script and escaped)):
            continue
        same = True
        for m in range(length):
            if data[at + m] | 32 != data[name + m]:
                same = False
                break
        after = data[at + length]
        if same and (after == 62 or after == 47 or after <= 32):
            if closing and not doubled:
                return k
            doubled = not closing


@njit(cache=True)
def _scan(data, eights, elements, flags, pieces, blocks, hashes, ids, traits, next_state, masks, symbols):  # type: ignore[no-untyped-def]
    n = len(data)
    ne = np.int64(0)
    ns = np.int64(0)
    nb = np.int64(0)
    depth = 0
    deepest = 0
    s_element = np.zeros(DEEPEST + 1, np.int32)  # open elements: number, hash of the name, and what holds inside
    s_hash = np.zeros(DEEPEST + 1, np.uint64)
    s_hidden = np.zeros(DEEPEST + 1, np.int8)  # 1: its text; 2: its formulas too
    s_foreign = np.zeros(DEEPEST + 1, np.int8)
    s_block = np.full(DEEPEST + 1, -1, np.int32)
    s_link = np.zeros(DEEPEST + 1, np.int8)
    s_pre = np.zeros(DEEPEST + 1, np.int8)
    s_list = np.zeros(DEEPEST + 1, np.int32)  # depth of lists
    s_number = np.zeros(DEEPEST + 1, np.int32)  # next number in an ol, -1 in others
    s_row = np.full(DEEPEST + 1, -1, np.int32)
    s_column = np.zeros(DEEPEST + 1, np.int32)
    open_block = -1
    margin = 0
    mark = 0
    indent = 0
    breaks = 0
    text = np.int64(0)
    linked = np.int64(0)
    math_depth = -1
    math_piece = np.int64(0)
    math_text = np.int64(0)
    math_block = -1
    tex0 = 0
    tex1 = 0
    tex_kind = FORMULA
    annotation = False
    last0 = 0
    last1 = 0
    i = 0
    while i < n:
        if data[i] != 60:  # text up to the next tag
            j = _find(data, eights, i, n, 60)
            if annotation:
                tex0, tex1 = i, j
                annotation = False
            elif s_hidden[depth] == 0:
                pre = s_pre[depth] != 0
                chars = words = commas = stops = digits = capitals = 0
                last = 0
                space = True
                for k in range(i, j):
                    byte = data[k]
                    if byte <= 32:
                        space = True
                        continue
                    if space:
                        words += 1
                        space = False
                    if byte < 128:
                        chars += 1
                        last = byte
                        if 65 <= byte <= 90:
                            capitals += 1
                        elif 48 <= byte <= 57:
                            digits += 1
                        elif byte == 44:
                            commas += 1
                        elif byte == 46 or byte == 33 or byte == 63:
                            stops += 1
                    elif byte >= 224:
                        chars += 3
                        last = byte
                        if byte == 227 and k + 2 < j and data[k + 1] == 128 and data[k + 2] == 130:
                            stops += 1
                            last = 46
                        elif byte == 227 and k + 2 < j and data[k + 1] == 128 and data[k + 2] == 129:
                            commas += 1
                        elif byte == 239 and k + 2 < j and data[k + 1] == 188:
                            if data[k + 2] == 140:
                                commas += 1
                            elif data[k + 2] == 129 or data[k + 2] == 159:
                                stops += 1
                                last = 46
                    elif byte >= 192:
                        chars += 1
                        last = byte
                if chars == 6 and j - i >= 6 and _has(data, i, j, b"&nbsp;"):
                    chars = 0
                if chars or open_block >= 0 or (pre and j > i):
                    if open_block < 0:
                        open_block = nb
                        nb += 1
                        blocks[open_block] = 0
                        blocks[open_block, ELEMENT] = s_block[depth]
                        blocks[open_block, PIECE] = ns
                        blocks[open_block, MARGIN] = margin
                        blocks[open_block, MARK] = mark
                        blocks[open_block, INDENT] = indent if mark else 0
                        blocks[open_block, ROW] = s_row[depth]
                        blocks[open_block, COLUMN] = s_column[depth]
                        margin = mark = 0
                    pieces[ns, KIND] = PRE if pre else TEXT
                    pieces[ns, FROM] = i
                    pieces[ns, TO] = j
                    pieces[ns, WITHIN] = s_element[depth]
                    ns += 1
                    if chars:
                        breaks = 0
                        text += chars
                        if s_link[depth]:
                            linked += chars
                            blocks[open_block, LINKED] += chars
                        blocks[open_block, CHARS] += chars
                        blocks[open_block, WORDS] += words
                        blocks[open_block, COMMAS] += commas
                        blocks[open_block, STOPS] += stops
                        blocks[open_block, DIGITS] += digits
                        blocks[open_block, CAPITALS] += capitals
                        blocks[open_block, LAST] = last
            i = j
            continue
        if i + 1 < n and (data[i + 1] == 33 or data[i + 1] == 63):  # a comment or doctype
            j = i + 2
            if i + 3 < n and data[i + 2] == 45 and data[i + 3] == 45:
                j = i + 4
                while j < n and not (data[j] == 62 and data[j - 1] == 45 and data[j - 2] == 45):
                    j += 1
            else:
                while j < n and data[j] != 62:
                    j += 1
            i = j + 1
            continue
        closing = i + 1 < n and data[i + 1] == 47
        j = i + 2 if closing else i + 1
        begin = j
        value = _BASIS
        while j < n and data[j] > 32 and data[j] != 62 and data[j] != 47:
            byte = data[j]
            if 65 <= byte <= 90:
                byte += 32
            value = (value ^ uint64(byte)) * _PRIME
            j += 1
        length = j - begin
        place = np.int64(value & uint64(1023))
        while hashes[place] != 0 and hashes[place] != value:
            place = (place + 1) & 1023
        tag = np.int64(ids[place]) if hashes[place] == value else 0
        trait = traits[tag]
        if closing:
            while j < n and data[j] != 62:
                j += 1
            i = j + 1
            up = depth
            while up > 0 and depth - up < 8 and s_hash[up] != value:
                up -= 1
            if up == 0 or s_hash[up] != value:
                continue
            for level in range(up, depth + 1):
                element = s_element[level]
                elements[element, TEXT1] = text
                elements[element, LINK1] = linked
                elements[element, BLOCK1] = nb
            depth = up - 1
            annotation = False
            if math_depth > depth:  # its end: the TeX, if there is any, takes the place of the marks
                if tex1 > tex0:
                    ns = math_piece
                    if math_block >= 0 and open_block == math_block:
                        blocks[open_block, CHARS] -= text - math_text
                    text = math_text
                math_depth = -1
            if s_pre[depth] and trait & BLOCK and open_block >= 0:
                pieces[ns, KIND] = SOFT
                pieces[ns, FROM] = pieces[ns, TO] = i
                pieces[ns, WITHIN] = s_element[depth]
                ns += 1
            elif trait & BLOCK:
                open_block = -1
                margin = max(margin, 2 if trait & GAP and not (s_list[depth] and (tag == _T_UL or tag == _T_OL)) else 1)
            if tag != _T_MATH or tex1 <= tex0:
                if tag == _T_LI:
                    mark = 0
                continue
            # the formula becomes a piece below
        alt0 = alt1 = 0
        own = np.int64(0)
        hide = 0
        display = tex_type = False
        start = 1
        if not closing:
            while j < n and data[j] != 62:
                if data[j] <= 32 or data[j] == 47:
                    j += 1
                    continue
                name = _BASIS
                while j < n and data[j] > 32 and data[j] != 61 and data[j] != 62 and data[j] != 47:
                    name = (name ^ uint64(data[j])) * _PRIME
                    j += 1
                v0 = v1 = j
                if j < n and data[j] == 61:
                    j += 1
                    if j < n and data[j] == 34:
                        v0 = j + 1
                        v1 = _find(data, eights, v0, n, 34)
                        j = v1 + 1
                    else:
                        v0 = j
                        while j < n and data[j] > 32 and data[j] != 62:
                            j += 1
                        v1 = j
                if name == _H_CLASS or name == _H_ID or name == _H_ROLE:
                    own |= _walk(data, v0, v1, next_state, masks, symbols)
                elif name == _H_ITEMPROP:
                    if v1 - v0 == 11 and _has(data, v0, v1, b"articlebody"):
                        own |= ARTICLE_BODY
                elif name == _H_STYLE:
                    if _hides(data, v0, v1):
                        own |= HIDDEN
                elif name == _H_HIDDEN:
                    if not _has(data, v0, v1, b"until-found"):
                        own |= HIDDEN
                elif name == _H_ARIA:
                    if v1 - v0 == 4:
                        own |= HIDDEN
                elif name == _H_TYPE:
                    tex_type = _has(data, v0, v1, b"math/tex")
                    display = display or (tex_type and _has(data, v0, v1, b"mode=display"))
                elif name == _H_ENCODING:
                    tex_type = _has(data, v0, v1, b"tex")
                elif name == _H_DISPLAY:
                    display = v1 - v0 == 5 and _has(data, v0, v1, b"block")
                elif (name == _H_ALT and tag == _T_IMG) or (name == _H_ALTTEXT and tag == _T_MATH):
                    alt0, alt1 = v0, v1
                elif name == _H_SRC:
                    if tag == _T_IMG and _walk(data, v0, v1, next_state, masks, symbols) & _F_MATH and _has(
                        data, v0, v1, b"tex"
                    ):
                        own |= _F_MATH
                elif name == _H_START and tag == _T_OL and 0 < v1 - v0 < 7:
                    start = 0
                    for k in range(v0, v1):
                        if 48 <= data[k] <= 57:
                            start = start * 10 + (data[k] - 48)
            i = j + 1
            element = ne
            ne += 1
            elements[element, TAG] = tag
            elements[element, PARENT] = s_element[depth] if depth else -1
            elements[element, TEXT0] = elements[element, TEXT1] = text
            elements[element, LINK0] = elements[element, LINK1] = linked
            elements[element, BLOCK0] = elements[element, BLOCK1] = nb
            flags[element] = own
            outer = depth
            void = trait & VOID and not s_foreign[depth]
            if not void and depth == DEEPEST:
                return ne, ns, nb, DEEPEST + 1
            if not void:
                depth += 1
                deepest = max(deepest, depth)
                s_element[depth] = element
                s_hash[depth] = value
                s_foreign[depth] = 1 if tag == _T_SVG or tag == _T_MATH else 0 if tag == _T_FOREIGN else s_foreign[outer]
                s_link[depth] = s_link[outer] or tag == _T_A
                if s_foreign[outer] == 0 and trait & BLOCK and not s_pre[outer]:
                    s_block[depth] = element
                else:
                    s_block[depth] = s_block[outer]
                s_pre[depth] = s_pre[outer] or tag == _T_PRE or tag == _T_LISTING or tag == _T_XMP or tag == _T_PLAINTEXT
                s_list[depth] = s_list[outer]
                s_number[depth] = s_number[outer]
                s_row[depth] = s_row[outer]
                s_column[depth] = s_column[outer]
                hide = s_hidden[outer]
                if trait & SKIPPED:
                    hide = 2
                elif own & _F_RENDERED and tag != _T_MJX:
                    hide = 2
                elif own & _F_NUMBER:
                    hide = 2
                elif tag == _T_MJX or tag == _T_ANNOTATION_XML:
                    hide = max(hide, 1)
                elif tag == _T_MATH and hide == 1:
                    hide = 0
                if tag == _T_ANNOTATION:
                    hide = max(hide, 1)
                    annotation = tex_type and math_depth >= 0 and s_hidden[outer] == 0
                s_hidden[depth] = hide
                if tag == _T_OL or tag == _T_UL or tag == _T_MENU or tag == _T_DIR:
                    s_list[depth] += 1
                    s_number[depth] = start if tag == _T_OL else -1
                elif tag == _T_TABLE:
                    s_row[depth] = -1
                    s_column[depth] = 0
                elif tag == _T_TR:
                    s_row[depth] = element
                    s_column[depth] = 0
                elif tag == _T_TD or tag == _T_TH:
                    s_column[outer] += 1
                    s_column[depth] = s_column[outer]
            if trait & BLOCK and s_foreign[outer] == 0:
                if s_pre[outer]:
                    pass
                else:
                    open_block = -1
                    nested = s_list[outer] and (tag == _T_UL or tag == _T_OL)
                    margin = max(margin, 2 if trait & GAP and not nested else 1)
                    if tag == _T_LI and s_list[outer]:
                        mark = -1
                        indent = s_list[outer]
                        if s_number[outer] >= 0:
                            mark = max(1, s_number[outer])
                            s_number[outer] += 1
            if tag == _T_A and open_block >= 0:
                blocks[open_block, LINKS] += 1
            if tag == _T_BR and s_hidden[outer] == 0:
                breaks += 1
                if s_pre[outer] == 0 and breaks == 2:
                    open_block = -1
                    margin = 2
                elif open_block >= 0:
                    pieces[ns, KIND] = BREAK
                    pieces[ns, FROM] = pieces[ns, TO] = i
                    pieces[ns, WITHIN] = s_element[outer]
                    ns += 1
                continue
            if tag == _T_MATH and hide < 2 and math_depth < 0 and not void:
                math_depth = depth
                math_piece = ns
                math_text = text
                math_block = open_block
                tex0, tex1 = alt0, alt1
                tex_kind = DISPLAY if display else FORMULA
                continue
            if trait & RAW and s_foreign[outer] == 0 and not void:
                j = _raw_end(data, eights, i, n, begin, length)
                if s_hidden[depth] == 0 and (tag == _T_XMP or tag == _T_PLAINTEXT):
                    tex0, tex1, tex_kind = i, j, RAW_PRE
                elif tag == _T_SCRIPT and tex_type and s_hidden[outer] < 2:
                    tex0, tex1, tex_kind = i, j, RAW_DISPLAY if display else RAW_FORMULA
                else:
                    i = j
                    continue
                i = j
            elif tag == _T_IMG and s_hidden[outer] == 0 and (own & _F_MATH or _is_letter(data, alt0, alt1)):
                tex0, tex1, tex_kind = alt0, alt1, FORMULA if own & _F_MATH else TEXT
                same = own & _F_MATH and alt1 > alt0 and last1 - last0 == alt1 - alt0  # the picture of the formula just before
                for k in range(alt1 - alt0):
                    same = same and data[last0 + k] == data[alt0 + k]
                if same:
                    tex1 = tex0
                    continue
            else:
                continue
        # a formula, or text in one piece
        if open_block < 0:
            open_block = nb
            nb += 1
            blocks[open_block] = 0
            blocks[open_block, ELEMENT] = s_block[depth]
            blocks[open_block, PIECE] = ns
            blocks[open_block, MARGIN] = margin
            blocks[open_block, MARK] = mark
            blocks[open_block, INDENT] = indent if mark else 0
            blocks[open_block, ROW] = s_row[depth]
            blocks[open_block, COLUMN] = s_column[depth]
            margin = mark = 0
        pieces[ns, KIND] = tex_kind
        pieces[ns, FROM] = tex0
        pieces[ns, TO] = tex1
        pieces[ns, WITHIN] = s_element[depth]
        ns += 1
        blocks[open_block, CHARS] += tex1 - tex0
        blocks[open_block, WORDS] += 1
        text += tex1 - tex0
        last0, last1 = tex0, tex1
        tex1 = tex0
        breaks = 0
    for level in range(1, depth + 1):
        element = s_element[level]
        elements[element, TEXT1] = text
        elements[element, LINK1] = linked
        elements[element, BLOCK1] = nb
    return ne, ns, nb, deepest
