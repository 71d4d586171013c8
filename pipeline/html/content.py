"""Which blocks of a page are its content: a linear classifier of each block, and rules about the page.

The weights are those of a logistic regression on `features`, fitted by `bench.fidelity.fit` to half of Trafilatura's
evaluation pages; it makes `weights.py`. The rules: what is hidden is not shown, comments are left out where the page is
about something else, a table is kept whole or not at all, code with the text around it, a paragraph is told once, and
where so little is left that the page would be lost, the line is drawn lower.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.html import columns as c
from pipeline.html.columns import Page
from pipeline.html.compiling import making_arrays
from pipeline.html.features import NAMES, features, inherited
from pipeline.html.layout import CELL, entity
from pipeline.html.names import CLASSES, TAGS
from pipeline.html.weights import BIAS, WEIGHTS

__all__ = ["left_out", "main_blocks", "shown"]

MOST_BLOCKS = 100_000
"""Blocks beyond which a page is data, all of it, and what is known of each would take gigabytes."""
ENOUGH = 200
"""Characters that are enough for a page, so that comments and hidden text may go."""
IMPLAUSIBLE = 250
"""Characters below which the content is implausibly short, if it is less than half of the page's text as well."""
LOWER = -1.5
"""Score for the content of such a page: odds of 1 to 4.5 that a block belongs to it."""
LOWER_GAIN = 2
"""Times the text that this must give to be believed."""
FRAME = 1 << 40
"""Stands for a table that is none, but holds the page."""
FIRST_HEADING, LAST_HEADING = TAGS["h1"], TAGS["h6"]
HEADING = -5.0
"""Score of a heading that may go with the text below it."""
LINKS = 0.8
"""Share of links beyond which a table is navigation (Trafilatura's for long ones)."""
NEAR = 3
"""Blocks of text that are near enough to code to be what it belongs to."""
ONCE = 60
"""Characters of a paragraph that is told once."""

_WEIGHTS = np.array([WEIGHTS.get(name, 0.0) for name in NAMES], np.float64)
_COMMENTS, _HIDDEN = NAMES.index("in comments"), NAMES.index("hidden")
_LINE_MARKS = sum(1 << bit for bit, name in enumerate(CLASSES) if name == "anchor")


def shown(page: Page) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which blocks are shown, and which pieces: all but those that a style or attribute hides, or that mark a place."""
    _, whole = inherited(page)
    pieces = whole[page.pieces[:, c.WITHIN]] & (c.HIDDEN | _LINE_MARKS) == 0
    return _any(page, pieces), pieces


def main_blocks(page: Page) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which blocks are the page's content, and which of their pieces."""
    if len(page.blocks) > MOST_BLOCKS:
        return shown(page)
    own, whole = inherited(page)
    table = features(page, own, whole)
    score = _score(table, _WEIGHTS, BIAS)
    chars = page.blocks[:, c.CHARS]
    keep = _without(table[:, _HIDDEN] > 0, _without(table[:, _COMMENTS] > 0, score > 0, chars), chars)
    _together(page.elements, page.pieces, page.blocks, keep, score, TAGS["table"])
    found = int(chars[keep].sum())
    if found < min(IMPLAUSIBLE, chars.sum() // 2):
        lower = score > LOWER
        if chars[lower].sum() > LOWER_GAIN * found:
            keep = lower
    keep[_repeated(page, keep)] = False
    return keep, whole[page.pieces[:, c.WITHIN]] & (c.HIDDEN | _LINE_MARKS) == 0


def left_out(page: Page, keep: npt.NDArray[np.bool_]) -> int:
    """Characters of the blocks that are not kept, as a reader would count them: entities as one, white space as one."""
    return int(_characters(page.markup, page.pieces, page.blocks, keep))


@making_arrays
def _characters(data, pieces, blocks, keep):  # type: ignore[no-untyped-def]  # compiled
    count = 0
    for b in range(len(blocks)):
        if keep[b]:
            continue
        blank = True
        for p in range(blocks[b, c.PIECE], blocks[b + 1, c.PIECE] if b + 1 < len(blocks) else len(pieces)):
            i = pieces[p, c.FROM]
            while i < pieces[p, c.TO]:
                code, after = entity(data, i, pieces[p, c.TO]) if data[i] == 38 else (0, i)
                space = data[i] <= 32
                count += data[i] & 0xC0 != 0x80 and not (space and blank)
                blank = space
                i = after if code else i + 1
    return count


@making_arrays
def _together(elements, pieces, blocks, keep, score, table):  # type: ignore[no-untyped-def]
    """Keep tables whole or not at all, by most of their text, code with text near it, headings with what follows."""
    nb = len(blocks)
    tables = np.full(nb, -1, np.int64)
    balance = np.zeros(len(elements), np.int64)
    for b in range(nb):
        above = blocks[b, c.ROW]
        while above >= 0 and elements[above, c.TAG] != table:
            above = elements[above, c.PARENT]
        tables[b] = above
        if above >= 0:
            if blocks[b, c.CHARS] > CELL:  # a frame of the page, not a table
                balance[above] = FRAME
            balance[above] += blocks[b, c.CHARS] if keep[b] else -blocks[b, c.CHARS]
    for b in range(nb):
        if tables[b] >= 0 and balance[tables[b]] < FRAME // 2:
            t = tables[b]
            linked = elements[t, c.LINK1] - elements[t, c.LINK0]
            keep[b] = balance[t] > 0 and linked <= LINKS * (elements[t, c.TEXT1] - elements[t, c.TEXT0])
    for b in range(nb):
        if pieces[blocks[b, c.PIECE], c.KIND] == c.PRE and not keep[b]:
            keep[b] = _is_near(pieces, blocks, keep, b, -1) or _is_near(pieces, blocks, keep, b, 1)
    begun = False
    for b in range(nb - 1):
        begun = begun or keep[b]
        tag = elements[blocks[b, c.ELEMENT], c.TAG] if blocks[b, c.ELEMENT] >= 0 else 0
        if begun and not keep[b] and keep[b + 1] and FIRST_HEADING <= tag <= LAST_HEADING and score[b] > HEADING:
            keep[b] = True


@making_arrays
def _is_near(pieces, blocks, keep, b, step):  # type: ignore[no-untyped-def]
    """Whether text is kept near block b, other code not counted."""
    texts = 0
    for _ in range(2 * NEAR):
        b += step
        if b < 0 or b >= len(blocks) or texts == NEAR:
            return False
        if pieces[blocks[b, c.PIECE], c.KIND] != c.PRE:
            if keep[b]:
                return True
            texts += 1
    return False


@making_arrays
def _score(table, weights, bias):  # type: ignore[no-untyped-def]
    """Log odds that a block is content; added up in one order on every machine."""
    score = np.empty(len(table), np.float64)
    for b in range(len(table)):
        total = bias
        for k in range(len(weights)):
            total += table[b, k] * weights[k]
        score[b] = total
    return score


def _without(
    what: npt.NDArray[np.bool_], keep: npt.NDArray[np.bool_], chars: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """`keep` without `what`, if that leaves enough."""
    rest = keep & ~what
    return rest if chars[rest].sum() >= ENOUGH else keep


def _repeated(page: Page, keep: npt.NDArray[np.bool_]) -> list[int]:
    """Blocks whose text is that of one before."""
    long = np.flatnonzero(keep & (page.blocks[:, c.CHARS] >= ONCE))
    lengths = page.blocks[long, c.CHARS].tolist()
    if len(set(lengths)) == len(lengths):
        return []
    alike: dict[tuple[int, ...], list[int]] = {}
    for block, counts in zip(long.tolist(), page.blocks[long, c.CHARS : c.LAST + 1].tolist(), strict=True):
        alike.setdefault(tuple(counts), []).append(block)
    repeated = []
    for blocks in alike.values():
        if len(blocks) > 1:
            seen: set[bytes] = set()
            for block in blocks:
                text = _markup(page, block)
                if text in seen:
                    repeated.append(block)
                seen.add(text)
    return repeated


def _markup(page: Page, block: int) -> bytes:
    end = page.blocks[block + 1, c.PIECE] if block + 1 < len(page.blocks) else len(page.pieces)
    return page.markup[page.pieces[page.blocks[block, c.PIECE], c.FROM] : page.pieces[end - 1, c.TO]].tobytes()


def _any(page: Page, pieces: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    if not len(page.blocks):
        return np.zeros(0, np.bool_)
    return np.logical_or.reduceat(pieces, page.blocks[:, c.PIECE])
