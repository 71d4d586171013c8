"""Spans carried on by characters where a script has no spaces.

There a token may hold several words, so that the tokens of a text and of a document part some characters before what
they say does. What the document has around a run of equal tokens is compared with the text character by character.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

import numpy as np

from pipeline.index.search import Piece

__all__ = ["carried_on"]

WINDOW = 8
"""Tokens looked at on either side, and four times as many where all of them agree."""
BROKEN = "\N{REPLACEMENT CHARACTER}"
"""Decoded from half a character: equal to none."""

Decode = Callable[[Sequence[int]], str]


def carried_on(decode: Decode, piece: Piece, eos: int, run: range, text: str, begin: int, end: int) -> tuple[int, int]:
    """How far around ``text[begin:end]`` a document agrees with the text.

    Args:
        eos: the token that ends every document.
        run: tokens of the piece that hold these characters, and before them no more than a space.
    """
    window = WINDOW
    while True:
        first, last = max(0, run.start - window), min(len(piece.tokens), run.stop + window)
        ids = piece.tokens.take(np.arange(first, last)).tolist()
        left, core, right = (ids[a - first : b - first] for a, b in _parts(first, run, last))
        is_all_left, is_all_right = eos in left or not first, eos in right or last == len(piece.tokens)
        left = left[len(left) - left[::-1].index(eos) :] if eos in left else left
        right = right[: right.index(eos)] if eos in right else right
        before, whole = decode(left + core), decode(left + core + right)
        if not (before.endswith(text[begin:end]) and whole.startswith(before)):
            return begin, end
        ahead, behind = before[: len(before) - (end - begin)], whole[len(before) :]
        more_left = _agreeing(ahead[::-1], text[max(0, begin - len(ahead)) : begin][::-1])
        more_right = _agreeing(behind, text[end : end + len(behind)])
        at_border = (more_left == len(ahead) and not is_all_left) or (more_right == len(behind) and not is_all_right)
        if not at_border or window > len(text):
            return begin - more_left, end + more_right
        window *= 4


def _parts(first: int, run: range, last: int) -> tuple[tuple[int, int], ...]:
    return (first, run.start), (run.start, run.stop), (run.stop, last)


def _agreeing(there: str, asked: str) -> int:
    """How many characters both begin with."""
    equal = takewhile(lambda pair: pair[0] == pair[1] != BROKEN, zip(there, asked, strict=False))
    return sum(1 for _ in equal)
