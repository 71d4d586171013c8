"""Which blocks of a page are its content: a linear classifier of each block, and four rules about the page.

The weights are those of a logistic regression on `features`, fitted by `bench.fidelity.fit` to half of Trafilatura's
evaluation pages; it makes `weights.py`. The rules: what is hidden is not shown, comments are left out where the page is
about something else, a paragraph is told once, and where so little is left that the page would be lost, the line is
drawn lower.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.html.features import NAMES, features, inherited
from pipeline.html.names import CLASSES
from pipeline.html.scan import CHARS, FROM, HIDDEN, PIECE, TO, WITHIN, Page
from pipeline.html.weights import BIAS, WEIGHTS

__all__ = ["main_blocks", "shown"]

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

_WEIGHTS = np.array([WEIGHTS.get(name, 0.0) for name in NAMES], np.float32)
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
    score = table @ _WEIGHTS + np.float32(BIAS)
    chars = page.blocks[:, CHARS]
    keep = _without(table[:, _HIDDEN] > 0, _without(table[:, _COMMENTS] > 0, score > 0, chars), chars)
    found = int(chars[keep].sum())
    if found < min(IMPLAUSIBLE, chars.sum() // 2):
        lower = score > LOWER
        if chars[lower].sum() > LOWER_GAIN * found:
            keep = lower
    keep[_repeated(page, keep)] = False
    return keep, whole[page.pieces[:, WITHIN]] & (HIDDEN | _LINE_MARKS) == 0


def _without(
    what: npt.NDArray[np.bool_], keep: npt.NDArray[np.bool_], chars: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """`keep` without `what`, if that leaves enough."""
    rest = keep & ~what
    return rest if chars[rest].sum() >= ENOUGH else keep


def _repeated(page: Page, keep: npt.NDArray[np.bool_]) -> list[int]:
    """Blocks whose text is that of one before."""
    seen: set[bytes] = set()
    repeated = []
    ends = _ends(page)
    for block in np.flatnonzero(keep & (page.blocks[:, CHARS] >= ONCE)):
        first = page.blocks[block, PIECE]
        text = page.markup[page.pieces[first, FROM] : page.pieces[ends[block] - 1, TO]].tobytes()
        if text in seen:
            repeated.append(int(block))
        seen.add(text)
    return repeated


def _ends(page: Page) -> npt.NDArray[np.int32]:
    return np.append(page.blocks[1:, PIECE], len(page.pieces)).astype(np.int32)


def _any(page: Page, pieces: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    if not len(page.blocks):
        return np.zeros(0, np.bool_)
    return np.logical_or.reduceat(pieces, page.blocks[:, PIECE])
