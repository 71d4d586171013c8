"""Gopher's rules about repeated n-grams (arXiv 2112.11446, table A1), as datatrove's filter has them, compiled.

datatrove makes a string of every n-gram, for n of 2 to 10. Here an n-gram is a stretch of the document's words laid end
to end, found again by its hash and compared byte by byte: decisions and reasons are datatrove's, on any text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter
from datatrove.utils.text import split_into_words
from numba import njit

from pipeline.text.words import WORDS

__all__ = ["REPEATED_N_GRAMS", "TOP_N_GRAMS", "FastGopherRepetition", "duplicate_characters", "top_characters"]

TOP_N_GRAMS = {2: 0.2, 3: 0.18, 4: 0.16}
REPEATED_N_GRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}
"""Shares of a text's characters (Gopher, table A1)."""


FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that it keeps all bits of what it multiplies."""
HALF = np.uint64(32)


@njit(cache=True)
def _prefixes(text, most):  # type: ignore[no-untyped-def]  # Numba infers the types
    """Hashes of all beginnings of `text`, from which that of any stretch follows; powers of FACTOR up to `most`."""
    hashes = np.zeros(len(text) + 1, dtype=np.uint64)
    for i in range(len(text)):
        hashes[i + 1] = hashes[i] * FACTOR + np.uint64(text[i]) + np.uint64(1)
    powers = np.ones(most + 1, dtype=np.uint64)
    for i in range(most):
        powers[i + 1] = powers[i] * FACTOR
    return hashes, powers


@njit(cache=True)
def _find(text, prefixes, powers, begin, end, slots, hashes, begins, ends, used):  # type: ignore[no-untyped-def]
    """The entry of `text[begin:end]`, which is `used` and made if there was none."""
    hashed = prefixes[end] - prefixes[begin] * powers[end - begin]
    mask = len(slots) - 1
    mixed = (hashed ^ (hashed >> HALF)) * FACTOR  # the low bits of the sum hang on the last characters alone
    slot = np.int64(mixed >> HALF) & mask
    while slots[slot] >= 0:
        entry = slots[slot]
        if hashes[entry] == hashed and ends[entry] - begins[entry] == end - begin:
            same = True
            for k in range(end - begin):
                if text[begins[entry] + k] != text[begin + k]:
                    same = False
                    break
            if same:
                return entry
        slot = (slot + 1) & mask
    slots[slot] = used
    hashes[used] = hashed
    begins[used] = begin
    ends[used] = end
    return used


@njit(cache=True)
def _top(text, prefixes, powers, bounds, letters, n, slots):  # type: ignore[no-untyped-def]
    """Characters of the most frequent n-gram, the first of several, times its count.

    Word i is `text[bounds[i]:bounds[i + 1] - 1]`, a space after it, and has `letters[i + 1] - letters[i]` characters.
    """
    grams = len(bounds) - n
    hashes = np.empty(grams, dtype=np.uint64)
    begins = np.empty(grams, dtype=np.int64)
    ends = np.empty(grams, dtype=np.int64)
    counts = np.zeros(grams, dtype=np.int64)
    sizes = np.empty(grams, dtype=np.int64)
    used = 0
    for i in range(grams):
        entry = _find(text, prefixes, powers, bounds[i], bounds[i + n] - 1, slots, hashes, begins, ends, used)
        if entry == used:
            sizes[entry] = letters[i + n] - letters[i] + n - 1
            used += 1
        counts[entry] += 1
    best = 0
    for entry in range(1, used):
        if counts[entry] > counts[best]:
            best = entry
    return sizes[best] * counts[best]


@njit(cache=True)
def _duplicates(text, prefixes, powers, bounds, letters, n, slots):  # type: ignore[no-untyped-def]
    """Characters in n-grams that occurred before, none counted twice; word i is `text[bounds[i]:bounds[i + 1]]`."""
    grams = len(bounds) - n
    hashes = np.empty(grams, dtype=np.uint64)
    begins = np.empty(grams, dtype=np.int64)
    ends = np.empty(grams, dtype=np.int64)
    used = repeated = i = 0
    while i < grams:
        entry = _find(text, prefixes, powers, bounds[i], bounds[i + n], slots, hashes, begins, ends, used)
        if entry == used:
            used += 1
            i += 1
        else:
            repeated += letters[i + n] - letters[i]
            i += n
    return repeated


def _laid_out(words: list[str], between: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """UTF-8 of the words with `between` after each; where each begins, and the end; characters before each."""
    text = np.frombuffer((between.join(words) + between).encode(errors="surrogatepass"), dtype=np.uint8)
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    letters = np.concatenate(([0], np.cumsum(lengths)))
    bounds = letters + len(between) * np.arange(len(words) + 1)
    if len(text) != bounds[-1]:  # not ASCII: from characters to bytes
        first_bytes = np.flatnonzero((text & 0xC0) != 0x80)
        bounds = np.append(first_bytes, len(text))[bounds]
    return text, bounds, letters


def _slots(words: int) -> np.ndarray:
    return np.full(1 << (2 * words).bit_length(), -1, dtype=np.int32)


def _counted(count: Any, words: list[str], between: str, sizes: tuple[int, ...]) -> list[int]:
    text, bounds, letters = _laid_out(words, between)
    possible = [n for n in sizes if n <= len(words)]
    most = max((int((bounds[n:] - bounds[:-n]).max()) for n in possible), default=0)
    prefixes, powers = _prefixes(text, most)
    found = {n: int(count(text, prefixes, powers, bounds, letters, n, _slots(len(words)))) for n in possible}
    return [found.get(n, 0) for n in sizes]


def top_characters(words: list[str], sizes: tuple[int, ...]) -> list[int]:
    """For each n, datatrove's `find_top_duplicate` of the n-grams; 0 where there are none."""
    return _counted(_top, words, " ", sizes)


def duplicate_characters(words: list[str], sizes: tuple[int, ...]) -> list[int]:
    """For each n, datatrove's `find_all_duplicate`."""
    return _counted(_duplicates, words, "", sizes)


class FastGopherRepetition(GopherRepetitionFilter):
    """datatrove's filter with the project's word splitter."""

    def __init__(
        self,
        dup_line_frac: float = 0.3,
        top_n_grams: Mapping[int, float] = TOP_N_GRAMS,
        dup_n_grams: Mapping[int, float] = REPEATED_N_GRAMS,
    ) -> None:
        super().__init__(dup_line_frac=dup_line_frac, top_n_grams=(), dup_n_grams=(), language=WORDS)
        self.tops, self.duplicates = dict(top_n_grams), dict(dup_n_grams)  # for `filter` below

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether the document stays, or the reason why not."""
        verdict: bool | tuple[bool, str] = super().filter(doc)
        if verdict is not True:
            return verdict
        words = split_into_words(doc.text, self.language)
        for (n, share), found in zip(self.tops.items(), top_characters(words, tuple(self.tops)), strict=True):
            if found / len(doc.text) > share:
                return False, f"top_{n}_gram"
        sizes = tuple(self.duplicates)
        for (n, share), found in zip(self.duplicates.items(), duplicate_characters(words, sizes), strict=True):
            if found / len(doc.text) > share:
                return False, f"duplicated_{n}_n_grams"
        return True
