"""What the rules must know of a text, found in two compiled passes and kept until the next text: words and lines.

Gopher's rules about quality and about repetition and FineWeb's all ask about the same words and lines; datatrove splits
the text anew for each and looks at every word in Python.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

from pipeline.text.characters import (
    IS_ALPHA,
    IS_CLOSING,
    IS_LETTER,
    IS_LINE_END,
    IS_PUNCTUATION,
    IS_SPACE,
    IS_STOP,
    IS_SYMBOL,
    IS_TERMINAL,
    IS_UNSPACED,
    characters,
)
from pipeline.text.kernels import COMPLETE, complete, decode, utf8, word_end

__all__ = ["SHORT_LINE", "Survey", "survey"]

SHORT_LINE = 30
"""Most characters of what FineWeb calls a short line."""
ELLIPSIS, BULLET, HYPHEN, FULL_STOP, NEW_LINE = map(ord, "…•-.\n")


class Survey(NamedTuple):
    """Of one text."""

    joined: np.ndarray
    """UTF-8 of the words, a space after each (uint8)."""
    bounds: np.ndarray
    """Where in `joined` each word begins, and the end (int64, one more than words)."""
    letters: np.ndarray
    """Characters in the words before each (int64, one more than words)."""
    words: int
    proper: int
    """Words that are not punctuation alone."""
    proper_letters: int
    """Characters of these."""
    alphabetic: int
    """Words with a letter in them."""
    hyphens: int
    """Words that are a hyphen between two letters."""
    lines: int
    """As `str.splitlines` has them."""
    bullets: int
    """Lines that begin with • or -, white space aside."""
    ellipses: int
    """Lines that end in an ellipsis, white space aside."""
    full_lines: int
    """Lines between line feeds that hold more than white space."""
    punctuated: int
    """Of these the ones that end with punctuation, perhaps with quotes and brackets behind."""
    short: int
    """Of these the ones of `SHORT_LINE` characters at most."""


@njit(cache=True)
def _words(text, joined, bounds, letters, built, kind):  # type: ignore[no-untyped-def]  # Numba infers the types
    """Fill the arrays; counts of words in the order of `Survey`; a page to build or COMPLETE."""
    n = len(text)
    i = k = count = total = proper = proper_letters = alphabetic = hyphens = 0
    letter_end = -1  # where the last word ended, if in letters
    while i < n:
        begin = i
        code, i = decode(text, i)
        if not built[code >> 8]:
            return 0, 0, 0, 0, 0, code >> 8
        what = kind[code]
        if what & (IS_LETTER | IS_SYMBOL | IS_UNSPACED) == 0:
            continue
        i, missing = word_end(text, i, n, what, built, kind)
        if missing != COMPLETE:
            return 0, 0, 0, 0, 0, missing
        bounds[count], letters[count] = k, total
        place = begin
        size = 0
        only_symbols, has_letter = True, False
        while place < i:
            code, place = decode(text, place)
            size += 1
            only_symbols = only_symbols and kind[code] & IS_PUNCTUATION != 0
            has_letter = has_letter or kind[code] & IS_ALPHA != 0
        for byte in range(begin, i):
            joined[k] = text[byte]
            k += 1
        joined[k] = 0x20
        k += 1
        total += size
        count += 1
        if not only_symbols:
            proper += 1
            proper_letters += size
        alphabetic += has_letter
        if has_letter:
            letter_end = i
        elif size == 1 and letter_end == begin and code in (HYPHEN, 0x2010) and i < n:
            code, _ = decode(text, i)
            hyphens += built[code >> 8] and kind[code] & IS_ALPHA != 0
    bounds[count], letters[count] = k, total
    return count, proper, proper_letters, alphabetic, hyphens, COMPLETE


@njit(cache=True)
def _lines(text, kind):  # type: ignore[no-untyped-def]
    """Counts of lines in the order of `Survey`; the pages of the text's characters are built."""
    lines = bullets = ellipses = full_lines = punctuated = short = 0
    open_line = begun = ellipsis = False  # of a line as splitlines has it
    stops = 0  # full stops in a row
    size, blank, stopped = 0, True, False  # of a line between line feeds
    n = len(text)
    i = 0
    while i <= n:
        if i < n:
            code, after = decode(text, i)
            what = kind[code]
        else:
            code, after, what = NEW_LINE, n + 1, kind[NEW_LINE]  # ends what is open
        paired = code == 0x0D and after < n and text[after] == NEW_LINE  # the line feed ends the line
        if what & IS_LINE_END and not paired:
            if open_line or i < n:
                lines += 1
                ellipses += ellipsis
            open_line = begun = ellipsis = False
            stops = 0
        else:
            open_line = True
            stops = stops + 1 if code == FULL_STOP else 0
            if what & IS_SPACE == 0:
                ellipsis = code == ELLIPSIS or stops >= 3
                bullets += not begun and code in (BULLET, HYPHEN)
                begun = True
        if code == NEW_LINE:
            if not blank:
                full_lines += 1
                punctuated += stopped
                short += size <= SHORT_LINE
            size, blank, stopped = 0, True, False
        else:
            size += 1
            if what & IS_SPACE == 0:
                blank = False
                ends = what & (IS_TERMINAL | IS_STOP) != 0 and code != ELLIPSIS
                stopped = ends or (stopped and what & IS_CLOSING != 0)
        i = after
    return lines, bullets, ellipses, full_lines, punctuated, short


@lru_cache(2)
def survey(text: str) -> Survey:
    """What the rules must know of a text."""
    data, tables = utf8(text), characters()
    joined = np.empty(2 * len(data), dtype=np.uint8)
    bounds, letters = (np.empty(len(data) + 1, dtype=np.int64) for _ in range(2))
    count, *about_words, _ = complete(lambda: _words(data, joined, bounds, letters, tables.built, tables.kind))
    return Survey(
        joined[: bounds[count]],
        bounds[: count + 1],
        letters[: count + 1],
        count,
        *about_words,
        *_lines(data, tables.kind),
    )
