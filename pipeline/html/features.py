"""What is known of each block of a page, as numbers: what its classes say, its words, its neighbours, its place.

The measures are those of the published classifiers of blocks: link density, words and neighbours (Kohlschütter et al.
2010, Boilerplate detection using shallow text features), short and long blocks and stop marks (jusText, Pomikálek
2011), the scores that paragraphs lend to what holds them (Readability), the share of an element in its page's text
(Trafilatura's guard against pruning too much).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.html import columns as c
from pipeline.html.columns import Page
from pipeline.html.compiling import making_arrays
from pipeline.html.names import CLASSES, TAGS

__all__ = ["NAMES", "features", "inherited"]

GOOD = 80
"""Characters of a paragraph that stands for text, if few of them are links."""
SPARSE = 0.3
"""Share of links that it may have."""
MOST = 0.4
"""Share of the page's text beyond which an element is its body, whatever its classes say of it."""
MOST_COMMENTS = 0.9
"""The same for comments, which may well be longer than what they are about."""

_TAG_GROUPS = {
    **{name: name for name in ("nav", "footer", "aside", "header", "table", "li", "blockquote", "pre", "article")},
    **{name: name for name in ("main", "address", "h1", "p", "a", "section")},
    "form": "form fieldset",
    "figure": "figure figcaption",
    "definition": "dl dd dt",
    "cell": "td th",
    "h2": "h2 h3",
    "h4": "h4 h5 h6",
    "figcaption": "figcaption caption",
}
_FIRST_TAG = 32
_ARTICLE_BODY = 31
_TAG_BITS = {name: _FIRST_TAG + number for number, name in enumerate(_TAG_GROUPS)}
_TAG_FLAGS = np.zeros(len(TAGS) + 1, np.int64)
for _group, _names in _TAG_GROUPS.items():
    for _name in _names.split():
        _TAG_FLAGS[TAGS[_name]] |= 1 << _TAG_BITS[_group]
_CLASS_BITS = {name: bit for bit, name in enumerate(CLASSES)}
_COMMENTS = 1 << _CLASS_BITS["comments"]
_BODY = sum(1 << bit for name, bit in _CLASS_BITS.items() if name not in ("strong", "content", "comments", "number"))
_STRONG, _ARTICLE, _LI = _CLASS_BITS["strong"], _TAG_BITS["article"], _TAG_BITS["li"]
_T_H1, _T_ARTICLE = TAGS["h1"], TAGS["article"]

_OWN: tuple[str, ...] = (
    "navigation",
    "footer",
    "header",
    "share",
    "related",
    "comments",
    "meta",
    "author",
    "caption",
    "form",
)
_OWN = (*_OWN, "strong", "content", "quote")
_BITS = {**{f"in {name}": bit for name, bit in _CLASS_BITS.items()}, "hidden": 30, "in articleBody": _ARTICLE_BODY}
_BITS |= {f"in <{name}>": bit for name, bit in _TAG_BITS.items()}
_TEXT: tuple[str, ...] = (
    "log characters",
    "log words",
    "link density",
    "stops",
    "commas",
    "ends a sentence",
    "ends in a colon",
)
_TEXT = (*_TEXT, "digits", "capitals", "at most 4 words", "only links", "links", "80 characters", "300 characters")
_TEXT = (*_TEXT, "80 without links", "a sentence")
_NEIGHBOURS: tuple[str, ...] = (
    "log characters before",
    "link density before",
    "log characters after",
    "link density after",
)
_NEIGHBOURS = (*_NEIGHBOURS, "log characters 2 before", "log characters 2 after", "text before", "text after")
_CONTAINERS: tuple[str, ...] = (
    "parent's link density",
    "parent's log characters",
    "parent's log blocks",
    "parent's share of text",
)
_CONTAINERS = (*_CONTAINERS, "grandparent's link density", "grandparent's log characters", "grandparent's share")
_CONTAINERS = (*_CONTAINERS, "great-grandparent's share", "in the best element", "score", "beside the best element")
_CONTAINERS = (*_CONTAINERS, "list's link density", "list's log characters of an item", "in a later article")
_PLACE: tuple[str, ...] = (
    "before the first text",
    "after the last text",
    "log blocks to text before",
    "log blocks to text after",
)
_PLACE = (*_PLACE, "before h1", "just after h1", "place", "log text of page", "within the text", "outside strong")
_PLACE = (*_PLACE, "page has strong", "outside article")
NAMES = (*_BITS, *(f"is {name}" for name in _OWN), *_TEXT, *_NEIGHBOURS, *_CONTAINERS, *_PLACE)
"""Of the columns."""
_BIT_COLUMNS = np.array(list(_BITS.values()), np.int64)
_OWN_BITS = np.array([_CLASS_BITS[name] for name in _OWN], np.int64)
_AT_TEXT = len(_BIT_COLUMNS) + len(_OWN_BITS)
_AT_NEIGHBOURS = _AT_TEXT + len(_TEXT)
_AT_CONTAINERS = _AT_NEIGHBOURS + len(_NEIGHBOURS)
_AT_PLACE = _AT_CONTAINERS + len(_CONTAINERS)


def inherited(page: Page) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Flags of each element, and its own with those of all that it stands in."""
    own, whole = _inherit(page.elements, page.flags, _TAG_FLAGS, _BODY, _COMMENTS)
    return own, whole


def features(page: Page, own: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """A row for each block, with the columns `NAMES`."""
    blocks, elements = page.blocks, page.elements
    table = np.zeros((len(blocks), len(NAMES)), np.float32)
    if len(blocks):
        flags = _flags(table, elements, page.pieces, blocks, own, whole, _BIT_COLUMNS, _OWN_BITS)
        good = _texts(table, blocks)
        score, mass, best = _scores(elements, blocks, good)
        _neighbours(table, blocks, good)
        _containers(table, elements, blocks, own, score, mass, best)
        _places(table, elements, blocks, flags, good, mass[0])
    return table


@making_arrays
def _inherit(elements, flags, tag_flags, body, comments):  # type: ignore[no-untyped-def]  # compiled
    n = len(elements)
    own, whole = np.zeros(n, np.int64), np.zeros(n, np.int64)
    total = max(1, elements[0, c.TEXT1]) if n else 1
    for e in range(n):
        share = (elements[e, c.TEXT1] - elements[e, c.TEXT0]) / total
        flag = flags[e] | tag_flags[elements[e, c.TAG]]
        if share > MOST:
            flag &= ~body
        if share > MOST_COMMENTS:
            flag &= ~comments
        if share > 0.5:
            flag &= ~np.int64(c.HIDDEN)
        own[e] = flag
        parent = elements[e, c.PARENT]
        whole[e] = flag | (whole[parent] if parent >= 0 else 0)
    return own, whole


@making_arrays
def _flags(table, elements, pieces, blocks, own, whole, bits, own_bits):  # type: ignore[no-untyped-def]
    """What all the pieces of a block have in common."""
    nb = len(blocks)
    flags = np.zeros(nb, np.int64)
    for b in range(nb):
        common = itself = np.int64(-1)
        for p in range(blocks[b, c.PIECE], blocks[b + 1, c.PIECE] if b + 1 < nb else len(pieces)):
            if pieces[p, c.KIND] == c.BREAK or pieces[p, c.KIND] == c.SOFT:
                continue
            element = pieces[p, c.WITHIN]
            common &= whole[element]
            local = np.int64(0)
            for _ in range(20):
                local |= own[element]
                if element == blocks[b, c.ELEMENT] or elements[element, c.PARENT] < 0:
                    break
                element = elements[element, c.PARENT]
            itself &= local
        flags[b] = 0 if common == -1 else common
        for k in range(len(bits)):
            table[b, k] = (flags[b] >> bits[k]) & 1
        for k in range(len(own_bits)):
            table[b, len(bits) + k] = 0 if itself == -1 else (itself >> own_bits[k]) & 1
    return flags


@making_arrays
def _texts(table, blocks):  # type: ignore[no-untyped-def]
    """The columns about the words of a block; which blocks are good paragraphs."""
    good = np.zeros(len(blocks), np.bool_)
    for b in range(len(blocks)):
        count, words = blocks[b, c.CHARS], blocks[b, c.WORDS]
        chars = max(1, count)
        links = blocks[b, c.LINKED] / chars
        last = blocks[b, c.LAST]
        ends = last == 46 or last == 33 or last == 63
        good[b] = count >= GOOD and links < SPARSE
        row = table[b, _AT_TEXT:_AT_NEIGHBOURS]
        row[0] = np.log1p(count)
        row[1] = np.log1p(words)
        row[2] = links
        row[3] = min(blocks[b, c.STOPS], 6)
        row[4] = min(blocks[b, c.COMMAS], 6)
        row[5] = ends
        row[6] = last == 58
        row[7] = blocks[b, c.DIGITS] / chars
        row[8] = blocks[b, c.CAPITALS] / chars
        row[9] = words <= 4
        row[10] = links > 0.9
        row[11] = min(blocks[b, c.LINKS], 5)
        row[12] = count >= GOOD
        row[13] = count >= 300
        row[14] = count >= GOOD and links < 0.1
        row[15] = ends and words >= 6
    return good


@making_arrays
def _scores(elements, blocks, good):  # type: ignore[no-untyped-def]
    """Readability's score of each element, the good text in it, and the element with the best score."""
    n = len(elements)
    score, mass = np.zeros(n, np.float32), np.zeros(n, np.float32)
    for b in range(len(blocks)):
        element, chars = blocks[b, c.ELEMENT], blocks[b, c.CHARS]
        if element < 0 or chars < 25:
            continue
        plain = 1 - blocks[b, c.LINKED] / max(1, chars)
        points = (1 + blocks[b, c.COMMAS] + min(chars / 100, 3.0)) * plain
        parent = elements[element, c.PARENT]
        for _ in range(4):
            if parent < 0:
                break
            score[parent] += points
            points /= 2.0
            parent = elements[parent, c.PARENT]
        if good[b]:
            mass[element] += chars * plain
    best = 0
    for e in range(n - 1, -1, -1):  # what stands in an element comes after it
        if elements[e, c.PARENT] >= 0:
            mass[elements[e, c.PARENT]] += mass[e]
        chars = max(1, elements[e, c.TEXT1] - elements[e, c.TEXT0])
        score[e] *= 1 - (elements[e, c.LINK1] - elements[e, c.LINK0]) / chars
        if score[e] >= score[best]:
            best = e
    return score, mass, best


@making_arrays
def _neighbours(table, blocks, good):  # type: ignore[no-untyped-def]
    nb = len(blocks)
    for b in range(nb):
        row = table[b, _AT_NEIGHBOURS:_AT_CONTAINERS]
        if b > 0:
            row[0] = table[b - 1, _AT_TEXT]
            row[1] = table[b - 1, _AT_TEXT + 2]
            row[6] = good[b - 1]
        if b + 1 < nb:
            row[2] = table[b + 1, _AT_TEXT]
            row[3] = table[b + 1, _AT_TEXT + 2]
            row[7] = good[b + 1]
        if b > 1:
            row[4] = table[b - 2, _AT_TEXT]
        if b + 2 < nb:
            row[5] = table[b + 2, _AT_TEXT]


@making_arrays
def _containers(table, elements, blocks, own, score, mass, best):  # type: ignore[no-untyped-def]
    """The columns about what a block stands in. Only what lies near is asked for, so that depth costs nothing."""
    total = max(np.float32(1.0), mass[0])
    main_article = -1  # the article with the most text, or one that it stands in
    for e in range(len(elements)):
        if elements[e, c.TAG] == _T_ARTICLE and (main_article < 0 or mass[e] > mass[main_article]):
            main_article = e
    for b in range(len(blocks)):
        row = table[b, _AT_CONTAINERS:_AT_PLACE]
        element = blocks[b, c.ELEMENT]
        parent = elements[element, c.PARENT] if element >= 0 else -1
        if parent >= 0:
            chars = elements[parent, c.TEXT1] - elements[parent, c.TEXT0]
            row[0] = (elements[parent, c.LINK1] - elements[parent, c.LINK0]) / max(1, chars)
            row[1] = np.log1p(chars)
            row[2] = np.log1p(elements[parent, c.BLOCK1] - elements[parent, c.BLOCK0])
            row[3] = mass[parent] / total
            parent = elements[parent, c.PARENT]
        if parent >= 0:
            chars = elements[parent, c.TEXT1] - elements[parent, c.TEXT0]
            row[4] = (elements[parent, c.LINK1] - elements[parent, c.LINK0]) / max(1, chars)
            row[5] = np.log1p(chars)
            row[6] = mass[parent] / total
            parent = elements[parent, c.PARENT]
        if parent >= 0:
            row[7] = mass[parent] / total
        row[8] = elements[best, c.BLOCK0] <= b < elements[best, c.BLOCK1]
        above = element
        seen_list = False
        highest = np.float32(0.0)
        for step in range(8):
            if above < 0:
                break
            if step < 3:
                highest = max(highest, score[above])
            if step < 4 and not row[8] and elements[above, c.PARENT] == elements[best, c.PARENT]:
                row[10] = 1
            if not seen_list and (own[above] >> _LI) & 1 and elements[above, c.PARENT] >= 0:
                seen_list = True
                outer = elements[above, c.PARENT]
                chars = elements[outer, c.TEXT1] - elements[outer, c.TEXT0]
                row[11] = (elements[outer, c.LINK1] - elements[outer, c.LINK0]) / max(1, chars)
                row[12] = np.log1p(chars / max(1, elements[outer, c.BLOCK1] - elements[outer, c.BLOCK0]))
            above = elements[above, c.PARENT]
        row[9] = highest / max(np.float32(1.0), score[best])
        if main_article >= 0 and b >= elements[main_article, c.BLOCK1]:
            row[13] = (table[b, _ARTICLE_COLUMN] == 1) * 1.0


_ARTICLE_COLUMN = list(_BITS).index("in <article>")


@making_arrays
def _places(table, elements, blocks, flags, good, text):  # type: ignore[no-untyped-def]
    nb = len(blocks)
    first, last, heading = nb, -1, -1
    strong = article = False
    for b in range(nb):
        if good[b]:
            strong = strong or (flags[b] >> _STRONG) & 1 == 1
            article = article or (flags[b] >> _ARTICLE) & 1 == 1
            if (flags[b] >> 1) & 1 == 0:  # not a footer
                first = min(first, b)
                last = b
    for e in range(len(elements)):
        if elements[e, c.TAG] == _T_H1 and elements[e, c.TEXT1] > elements[e, c.TEXT0]:
            heading = elements[e, c.BLOCK0]
            break
    following = nb
    for b in range(nb - 1, -1, -1):
        table[b, _AT_PLACE + 3] = np.log1p(following - b) if following < nb else 6
        if good[b]:
            following = b
    before = -1
    whole = np.log1p(text)
    for b in range(nb):
        row = table[b, _AT_PLACE:]
        row[0] = b < first
        row[1] = b > last
        row[2] = np.log1p(b - before) if before >= 0 else 6
        if good[b]:
            before = b
        row[4] = heading >= 0 and b < heading
        row[5] = heading >= 0 and heading < b <= heading + 3
        row[6] = b / nb
        row[7] = whole
        row[8] = first <= b <= last
        row[9] = strong and (flags[b] >> _STRONG) & 1 == 0
        row[10] = strong
        row[11] = article and (flags[b] >> _ARTICLE) & 1 == 0
