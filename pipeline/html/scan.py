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
from numba import uint64

from pipeline.html import columns as c
from pipeline.html import pieces as p
from pipeline.html.columns import Page
from pipeline.html.compiling import compiled, inlined
from pipeline.html.names import (
    ATTRIBUTES,
    BLOCK,
    GAP,
    MASKS,
    NEXT,
    RAW,
    SKIPPED,
    SYMBOL_OF,
    TAG_HASHES,
    TAG_IDS,
    TAG_TRAITS,
    TAGS,
    VOID,
    fnv,
)
from pipeline.html.pieces import Tables, formula, piece, text
from pipeline.html.search import find, has, hides, is_letter, raw_end, walk

__all__ = ["scan"]

DEEPEST = 1023
"""Elements within each other at which reading ends."""
# What the attributes of a tag say.
_OWN, _ALT0, _ALT1, _DISPLAY, _TEX, _START, _VALUE, _NUMERALS = range(8)

_F_MATH, _F_NUMBER, _F_RENDERED = c.CLASS_FLAGS["math"], c.CLASS_FLAGS["number"], c.CLASS_FLAGS["rendered"]
_A_CLASS, _A_ID, _A_ROLE, _A_ITEMPROP, _A_STYLE, _A_HIDDEN, _A_ARIA, _A_TYPE = (
    np.uint64(ATTRIBUTES[name])
    for name in ("class", "id", "role", "itemprop", "style", "hidden", "aria-hidden", "type")
)
_A_ALT, _A_ALTTEXT, _A_DISPLAY, _A_ENCODING, _A_SRC, _A_START, _A_VALUE = (
    np.uint64(ATTRIBUTES[name]) for name in ("alt", "alttext", "display", "encoding", "src", "start", "value")
)
_T_A, _T_BR, _T_IMG, _T_MATH, _T_SCRIPT, _T_PRE, _T_LI, _T_OL, _T_UL, _T_MENU, _T_DIR = (
    TAGS[name] for name in ("a", "br", "img", "math", "script", "pre", "li", "ol", "ul", "menu", "dir")
)
_T_TR, _T_TD, _T_TH, _T_TABLE, _T_SVG, _T_ANNOTATION, _T_FOREIGN, _T_LISTING, _T_MJX = (
    TAGS[name] for name in ("tr", "td", "th", "table", "svg", "annotation", "foreignobject", "listing", "mjx-container")
)
_T_ANNOTATION_XML, _T_XMP, _T_PLAINTEXT = (TAGS[name] for name in ("annotation-xml", "xmp", "plaintext"))
_BASIS, _PRIME = np.uint64(fnv(b"")), np.uint64(0x100000001B3)


class _Names(NamedTuple):
    """Tables of `pipeline.html.names`."""

    hashes: npt.NDArray[np.uint64]
    ids: npt.NDArray[np.int16]
    traits: npt.NDArray[np.int16]
    next_state: npt.NDArray[np.int16]
    masks: npt.NDArray[np.int64]
    symbols: npt.NDArray[np.uint8]


_NAMES = _Names(TAG_HASHES, TAG_IDS, TAG_TRAITS, NEXT, MASKS, SYMBOL_OF)


def scan(markup: str) -> Page:
    """The tables of a serialised tree."""
    data = np.frombuffer(markup.encode("utf-8", "replace"), np.uint8)
    tags = int(np.count_nonzero(data == ord("<"))) + 1
    stack = np.empty((DEEPEST + 1, 11), np.int64)
    stack[0] = 0
    stack[0, [p.BLOCK, p.ROW]] = -1
    at = np.zeros(20, np.int64)
    at[[p.OPEN, p.MATH]] = -1
    tables = Tables(
        data,
        data[: len(data) & ~7].view(np.uint64),
        np.empty((tags, c.OF_ELEMENT), np.int32),
        np.empty(tags, np.int64),
        np.empty((2 * tags + 1, c.OF_PIECE), np.int32),
        np.empty((2 * tags + 1, c.OF_BLOCK), np.int32),
        stack,
        at,
        np.zeros(8, np.int64),
    )
    depth = int(_scan(tables, _NAMES))
    elements, pieces, blocks = (int(at[column]) for column in (p.ELEMENTS, p.PIECES, p.BLOCKS))
    found = tables.elements[:elements], tables.flags[:elements], tables.pieces[:pieces], tables.blocks[:blocks]
    return Page(data, *found, depth)


@compiled
def _scan(t, names):  # type: ignore[no-untyped-def]  # compiled: Numba infers the types
    """Fill the tables; the greatest depth."""
    data, at = t.data, t.at
    n = len(data)
    i = deepest = 0
    while i < n:
        if data[i] != 60:
            end = find(data, t.eights, i, n, 60)
            if at[p.ANNOTATION]:
                at[p.TEX0], at[p.TEX1], at[p.ANNOTATION] = i, end, 0
            elif t.stack[at[p.DEPTH], p.HIDE] == 0:
                text(t, i, end)
            i = end
        elif i + 1 < n and (data[i + 1] == 33 or data[i + 1] == 63):
            i = _after_comment(data, i, n)
        elif i + 1 < n and data[i + 1] == 47:
            i = _end_tag(t, names, i + 2, n)
        else:
            i = _start_tag(t, names, i + 1, n)
            deepest = max(deepest, at[p.DEPTH])
            if deepest == DEEPEST:
                break
    for depth in range(1, at[p.DEPTH] + 1):
        _close(t, depth)
    return deepest


@inlined
def _after_comment(data, i, n):  # type: ignore[no-untyped-def]
    """Behind the comment or document type at i."""
    if i + 3 < n and data[i + 2] == 45 and data[i + 3] == 45:
        i += 4
        while i < n and not (data[i] == 62 and data[i - 1] == 45 and data[i - 2] == 45):
            i += 1
    else:
        while i < n and data[i] != 62:
            i += 1
    return i + 1


@inlined
def _name(data, names, i, n):  # type: ignore[no-untyped-def]
    """Hash of the name at i, number of that element, and where the name ends."""
    value = _BASIS
    while i < n and data[i] > 32 and data[i] != 62 and data[i] != 47:
        byte = data[i]
        if 65 <= byte <= 90:
            byte += 32
        value = (value ^ uint64(byte)) * _PRIME
        i += 1
    place = np.int64(value & uint64(1023))
    while names.hashes[place] != 0 and names.hashes[place] != value:
        place = (place + 1) & 1023
    return np.int64(value), np.int64(names.ids[place]), i


@inlined
def _gap(t, depth, tag, trait):  # type: ignore[no-untyped-def]
    """Lines between the block element and what stands before or after it; a list within a list has none of its own."""
    nested = t.stack[depth, p.LIST] and (tag == _T_UL or tag == _T_OL)
    return 2 if trait & GAP and not nested else 1


@inlined
def _close(t, depth):  # type: ignore[no-untyped-def]
    """Note what an open element has held."""
    element = t.stack[depth, p.NUMBER]
    t.elements[element, c.TEXT1] = t.at[p.TEXT]
    t.elements[element, c.LINK1] = t.at[p.LINKED]
    t.elements[element, c.BLOCK1] = t.at[p.BLOCKS]


@inlined
def _end_tag(t, names, i, n):  # type: ignore[no-untyped-def]
    """The end tag whose name begins at i; where it ends."""
    at, stack = t.at, t.stack
    name, tag, i = _name(t.data, names, i, n)
    i = find(t.data, t.eights, i, n, 62) + 1
    depth = at[p.DEPTH]
    lowest = max(0, depth - 8)  # the tree was well-formed: only what is no markup, and looks like it, goes astray
    while depth > lowest and stack[depth, p.HASH] != name:
        depth -= 1
    if depth <= lowest:
        return i
    for level in range(depth, at[p.DEPTH] + 1):
        _close(t, level)
    at[p.DEPTH] = depth - 1
    at[p.ANNOTATION] = 0
    if at[p.MATH] >= depth:
        at[p.MATH] = -1
        _end_formula(t)
    trait = names.traits[tag]
    if trait & BLOCK and stack[depth - 1, p.PRE] and at[p.OPEN] >= 0:
        piece(t, c.SOFT, i, i, stack[depth - 1, p.NUMBER])
    elif trait & BLOCK:
        at[p.OPEN] = -1
        at[p.MARGIN] = max(at[p.MARGIN], _gap(t, depth - 1, tag, trait))
    if tag == _T_LI:
        at[p.MARK] = 0
    return i


@compiled
def _end_formula(t):  # type: ignore[no-untyped-def]
    """Put the TeX of a formula, if it has any, in place of its signs."""
    at = t.at
    if at[p.TEX1] > at[p.TEX0]:
        if at[p.OPEN] >= 0:
            if t.blocks[at[p.OPEN], c.PIECE] > at[p.MATH_PIECE]:  # begun within the formula
                t.blocks[at[p.OPEN], c.PIECE] = at[p.MATH_PIECE]
            t.blocks[at[p.OPEN], c.CHARS] -= at[p.TEXT] - at[p.MATH_TEXT]
        at[p.PIECES] = at[p.MATH_PIECE]
        at[p.TEXT] = at[p.MATH_TEXT]
        formula(t, at[p.TEX_KIND], at[p.TEX0], at[p.TEX1])


@inlined
def _attributes(t, names, i, n, tag):  # type: ignore[no-untyped-def]
    """What the attributes from i on say, into `t.said`; where the tag ends."""
    data = t.data
    for k in range(8):
        t.said[k] = 0
    t.said[_START] = 1
    while i < n and data[i] != 62:
        if data[i] <= 32 or data[i] == 47:
            i += 1
            continue
        name = _BASIS
        while i < n and data[i] > 32 and data[i] != 61 and data[i] != 62 and data[i] != 47:
            name = (name ^ uint64(data[i])) * _PRIME
            i += 1
        begin = end = i
        if i + 1 < n and data[i] == 61 and data[i + 1] == 34:
            begin = i + 2
            end = find(data, t.eights, begin, n, 34)
            i = end + 1
        elif i < n and (data[i] == 61 or data[i] == 47):
            i += 1
        if name == _A_CLASS or name == _A_ID or name == _A_ROLE:
            t.said[_OWN] |= walk(data, begin, end, names.next_state, names.masks, names.symbols)
        else:
            _attribute(t, names, name, begin, end, tag)
    return i + 1


@inlined
def _attribute(t, names, name, i, j, tag):  # type: ignore[no-untyped-def]
    """What the attribute with the value data[i:j] says."""
    data, said = t.data, t.said
    if name == _A_STYLE:
        said[_OWN] |= c.HIDDEN if hides(data, i, j) else 0
    elif name == _A_HIDDEN:
        said[_OWN] |= 0 if has(data, i, j, b"until-found") else c.HIDDEN
    elif name == _A_ARIA:
        said[_OWN] |= c.HIDDEN if j - i == 4 else 0  # true
    elif name == _A_ITEMPROP:
        said[_OWN] |= c.ARTICLE_BODY if j - i == 11 and has(data, i, j, b"articlebody") else 0
    elif name == _A_TYPE and tag == _T_SCRIPT:
        said[_TEX] = has(data, i, j, b"math/tex")
        said[_DISPLAY] = has(data, i, j, b"mode=display")
    elif name == _A_ENCODING:
        said[_TEX] = has(data, i, j, b"tex")
    elif name == _A_DISPLAY:
        said[_DISPLAY] = has(data, i, j, b"block")
    elif (name == _A_ALT and tag == _T_IMG) or (name == _A_ALTTEXT and tag == _T_MATH):
        said[_ALT0], said[_ALT1] = i, j
    elif name == _A_SRC and tag == _T_IMG and has(data, i, j, b"tex"):
        said[_OWN] |= walk(data, i, j, names.next_state, names.masks, names.symbols) & _F_MATH
    elif name == _A_TYPE and tag == _T_OL and j - i == 1:
        byte = data[i]
        said[_NUMERALS] = 1 if byte == 97 else 2 if byte == 65 else 3 if byte == 105 else 4 if byte == 73 else 0  # aAiI
    elif ((name == _A_START and tag == _T_OL) or (name == _A_VALUE and tag == _T_LI)) and 0 < j - i < 7:
        number = 0
        for k in range(i, j):
            if 48 <= data[k] <= 57:
                number = number * 10 + (data[k] - 48)
        said[_START if tag == _T_OL else _VALUE] = number


@inlined
def _start_tag(t, names, begin, n):  # type: ignore[no-untyped-def]
    """The start tag whose name begins there; where it ends, and behind its content where that is no markup."""
    at, said = t.at, t.said
    stack, outer = t.stack, at[p.DEPTH]
    name, tag, i = _name(t.data, names, begin, n)
    length = i - begin
    i = _attributes(t, names, i, n, tag)
    trait = names.traits[tag]
    element = _element(t, tag, outer)
    if trait & BLOCK and not stack[outer, p.FOREIGN] and not stack[outer, p.PRE]:
        at[p.OPEN] = -1
        at[p.MARGIN] = max(at[p.MARGIN], _gap(t, outer, tag, trait))
        if tag == _T_LI and stack[outer, p.LIST]:
            if said[_VALUE] and stack[outer, p.ITEM] > 0:
                stack[outer, p.ITEM] = (stack[outer, p.ITEM] >> c.NUMERALS << c.NUMERALS) + said[_VALUE]
            at[p.MARK] = stack[outer, p.ITEM] if stack[outer, p.ITEM] > 0 else -1
            at[p.INDENT] = stack[outer, p.LIST]
            stack[outer, p.ITEM] += stack[outer, p.ITEM] > 0
    if tag == _T_A and at[p.OPEN] >= 0:
        t.blocks[at[p.OPEN], c.LINKS] += 1
    if trait & VOID and not stack[outer, p.FOREIGN]:
        if not stack[outer, p.HIDE]:
            _void(t, tag, i, stack[outer, p.NUMBER])
        return i
    at[p.DEPTH] += 1
    inner = outer + 1
    for column in range(p.COLUMN + 1):
        stack[inner, column] = stack[outer, column]
    stack[inner, p.NUMBER] = element
    stack[inner, p.HASH] = name
    _enter(stack, inner, tag, trait, element, said)
    stack[inner, p.HIDE] = _hiding(stack[outer, p.HIDE], tag, trait, said[_OWN])
    if tag == _T_MATH and stack[inner, p.HIDE] < 2 and at[p.MATH] < 0:
        at[p.MATH], at[p.MATH_PIECE], at[p.MATH_TEXT] = at[p.DEPTH], at[p.PIECES], at[p.TEXT]
        at[p.TEX0], at[p.TEX1] = said[_ALT0], said[_ALT1]
        at[p.TEX_KIND] = c.DISPLAY if said[_DISPLAY] else c.FORMULA
    elif tag == _T_ANNOTATION:
        at[p.ANNOTATION] = said[_TEX] and at[p.MATH] >= 0 and stack[outer, p.HIDE] == 0
    elif trait & RAW and not stack[outer, p.FOREIGN]:
        end = raw_end(t.data, t.eights, i, n, begin, length)
        _raw(t, tag, outer, i, end)
        return end
    return i


@inlined
def _element(t, tag, outer):  # type: ignore[no-untyped-def]
    """A new row of the elements."""
    at = t.at
    e = at[p.ELEMENTS]
    at[p.ELEMENTS] = e + 1
    t.elements[e, c.TAG] = tag
    t.elements[e, c.PARENT] = t.stack[outer, p.NUMBER] if at[p.DEPTH] else -1
    t.elements[e, c.TEXT0] = t.elements[e, c.TEXT1] = at[p.TEXT]
    t.elements[e, c.LINK0] = t.elements[e, c.LINK1] = at[p.LINKED]
    t.elements[e, c.BLOCK0] = t.elements[e, c.BLOCK1] = at[p.BLOCKS]
    t.flags[e] = t.said[_OWN]
    return e


@inlined
def _enter(stack, inner, tag, trait, element, said):  # type: ignore[no-untyped-def]
    """What holds in an element, where it is not what holds around it."""
    if tag == _T_SVG or tag == _T_MATH:
        stack[inner, p.FOREIGN] = 1
    elif tag == _T_FOREIGN:
        stack[inner, p.FOREIGN] = 0
    elif tag == _T_A:
        stack[inner, p.LINK] = 1
    elif trait & BLOCK and not stack[inner - 1, p.FOREIGN]:
        if not stack[inner - 1, p.PRE]:
            stack[inner, p.BLOCK] = element
        if tag == _T_PRE or tag == _T_LISTING or tag == _T_XMP or tag == _T_PLAINTEXT:
            stack[inner, p.PRE] = 1
        elif tag == _T_OL or tag == _T_UL or tag == _T_MENU or tag == _T_DIR:
            stack[inner, p.LIST] += 1
            stack[inner, p.ITEM] = (said[_NUMERALS] << c.NUMERALS) + max(1, said[_START]) if tag == _T_OL else -1
        elif tag == _T_TABLE or tag == _T_TR:
            stack[inner, p.ROW] = element if tag == _T_TR else -1
            stack[inner, p.COLUMN] = 0
        elif tag == _T_TD or tag == _T_TH:
            stack[inner - 1, p.COLUMN] += 1
            stack[inner, p.COLUMN] = stack[inner - 1, p.COLUMN]


@inlined
def _hiding(outside, tag, trait, own):  # type: ignore[no-untyped-def]
    """Whether the text (1), or the formulas as well (2), of an element are hidden. Math libraries draw a formula out of
    many elements and keep it whole in one that is not shown, beside it or within."""
    if trait & SKIPPED or own & _F_NUMBER or (own & _F_RENDERED and tag != _T_MJX):
        return 2
    if tag == _T_MJX or tag == _T_ANNOTATION or tag == _T_ANNOTATION_XML:
        return max(outside, 1)
    return 0 if tag == _T_MATH and outside == 1 else outside


@compiled
def _void(t, tag, i, element):  # type: ignore[no-untyped-def]
    """A line end, or a picture that stands for text."""
    at, said = t.at, t.said
    if tag == _T_BR:
        at[p.BREAKS] += 1
        if at[p.BREAKS] == 2 and not t.stack[at[p.DEPTH], p.PRE]:
            at[p.OPEN] = -1
            at[p.MARGIN] = 2
        elif at[p.OPEN] >= 0:
            piece(t, c.BREAK, i, i, element)
    elif tag == _T_IMG and said[_ALT1] > said[_ALT0]:
        if said[_OWN] & _F_MATH:
            if not _is_last(t):
                formula(t, c.FORMULA, said[_ALT0], said[_ALT1])
        elif is_letter(t.data, said[_ALT0], said[_ALT1]):
            formula(t, c.TEXT, said[_ALT0], said[_ALT1])


@compiled
def _is_last(t):  # type: ignore[no-untyped-def]
    """Whether the picture is that of the formula before, which browsers show that cannot draw formulas."""
    i, j = t.at[p.LAST0], t.said[_ALT0]
    if t.at[p.LAST1] - i != t.said[_ALT1] - j:
        return False
    for k in range(t.at[p.LAST1] - i):
        if t.data[i + k] != t.data[j + k]:
            return False
    return True


@compiled
def _raw(t, tag, outer, i, end):  # type: ignore[no-untyped-def]
    """What is no markup and shown all the same: a formula in a script, and the elements before `pre`."""
    if tag == _T_SCRIPT and t.said[_TEX] and t.stack[outer, p.HIDE] < 2:
        formula(t, c.RAW_DISPLAY if t.said[_DISPLAY] else c.RAW_FORMULA, i, end)
    elif (tag == _T_XMP or tag == _T_PLAINTEXT) and not t.stack[outer, p.HIDE]:
        formula(t, c.RAW_PRE, i, end)
