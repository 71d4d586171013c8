"""Which blocks of a page are its content: a linear classifier of each block, and four rules about the page.

The weights are those of a logistic regression on `features`, fitted by `bench.fidelity.fit` to half of Trafilatura's
evaluation pages; it makes `weights.py`. The rules: what is hidden is not shown, comments are left out where the page is
about something else, a paragraph is told once, and where so little is left that the page would be lost, the line is
drawn lower.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.html.features import NAMES, features, inherited
from pipeline.html.names import CLASSES
from pipeline.html.scan import CHARS, FROM, HIDDEN, LAST, PIECE, TO, WITHIN, Page
from pipeline.html.weights import BIAS, WEIGHTS

__all__ = ["left_out", "main_blocks", "shown"]

ENOUGH = 200
"""Characters that are enough for a page, so that comments and hidden text may go."""
IMPLAUSIBLE = 250
"""Characters below which the content is implausibly short, if it is less than half of the page's text as well."""
LOWER = -1.5
"""Score for the content of such a page: odds of 1 to 4.5 that a block belongs to it."""
LOWER_GAIN = 2
"""Times the text that this must give to be believed."""
ONCE = 60
"""Characters of a paragraph that is told once."""

_WEIGHTS = np.array([WEIGHTS.get(name, 0.0) for name in NAMES], np.float64)
_COMMENTS, _HIDDEN = NAMES.index("in comments"), NAMES.index("hidden")
_LINE_MARKS = sum(1 << bit for bit, name in enumerate(CLASSES) if name == "anchor")


def shown(page: Page) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which blocks are shown, and which pieces: all but those that a style or attribute hides."""
    _, whole = inherited(page)
    pieces = whole[page.pieces[:, WITHIN]] & HIDDEN == 0
    return _any(page, pieces), pieces


def main_blocks(page: Page) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which blocks are the page's content, and which of their pieces."""
    own, whole = inherited(page)
    table = features(page, own, whole)
    score = _score(table, _WEIGHTS, BIAS)
    chars = page.blocks[:, CHARS]
    keep = _without(table[:, _HIDDEN] > 0, _without(table[:, _COMMENTS] > 0, score > 0, chars), chars)
    found = int(chars[keep].sum())
    if found < min(IMPLAUSIBLE, chars.sum() // 2):
        lower = score > LOWER
        if chars[lower].sum() > LOWER_GAIN * found:
            keep = lower
    keep[_repeated(page, keep)] = False
    return keep, whole[page.pieces[:, WITHIN]] & (HIDDEN | _LINE_MARKS) == 0


def left_out(page: Page, keep: npt.NDArray[np.bool_]) -> int:
    """Characters of the blocks that are not kept."""
    return int(_characters(page.markup, page.pieces, page.blocks, keep))


@njit(cache=True)
def _characters(data, pieces, blocks, keep):  # type: ignore[no-untyped-def]  # compiled
    count = 0
    for b in range(len(blocks)):
        if keep[b]:
            continue
        for p in range(blocks[b, PIECE], blocks[b + 1, PIECE] if b + 1 < len(blocks) else len(pieces)):
            for i in range(pieces[p, FROM], pieces[p, TO]):
                count += data[i] & 0xC0 != 0x80
    return count


@njit(cache=True)
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
    long = np.flatnonzero(keep & (page.blocks[:, CHARS] >= ONCE))
    alike: dict[tuple[int, ...], list[int]] = {}
    for block, counts in zip(long.tolist(), page.blocks[long, CHARS : LAST + 1].tolist(), strict=True):
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
    end = page.blocks[block + 1, PIECE] if block + 1 < len(page.blocks) else len(page.pieces)
    return page.markup[page.pieces[page.blocks[block, PIECE], FROM] : page.pieces[end - 1, TO]].tobytes()


def _any(page: Page, pieces: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    if not len(page.blocks):
        return np.zeros(0, np.bool_)
    return np.logical_or.reduceat(pieces, page.blocks[:, PIECE])
