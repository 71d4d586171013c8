"""Gopher's rules about repeated n-grams (arXiv 2112.11446, table A1), as datatrove's filter has them, compiled.

datatrove makes a string of every n-gram, for n of 2 to 10. Here an n-gram is a stretch of the document's words laid end
to end, found again by its hash and compared byte by byte: decisions and reasons are datatrove's, but that what occurs
once is no repetition, however short the text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter
from numba import njit

from pipeline.clean.quality import repeats
from pipeline.clean.survey import Survey, survey
from pipeline.text.thresholds import ENGLISH, thresholds

__all__ = ["FastGopherRepetition", "duplicate_characters", "top_characters"]

SPACE = 0x20

FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that it keeps all bits of what it multiplies."""
HALF = np.uint64(32)


@njit(cache=True)
def _prefixes(text, bounds, most):  # type: ignore[no-untyped-def]  # Numba infers the types
    """Hashes of all beginnings of `text`, from which that of any stretch follows; powers of FACTOR for `most` words."""
    hashes = np.zeros(len(text) + 1, dtype=np.uint64)
    for i in range(len(text)):
        hashes[i + 1] = hashes[i] * FACTOR + np.uint64(text[i]) + np.uint64(1)
    longest = 0
    for i in range(len(bounds)):
        longest = max(longest, bounds[min(i + most, len(bounds) - 1)] - bounds[i])
    powers = np.ones(longest + 1, dtype=np.uint64)
    for i in range(longest):
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
def _count(text, bounds, letters, sizes, top, out):  # type: ignore[no-untyped-def]
    """Characters of repeated n-grams for each n of `sizes`, into `out`; word i is `text[bounds[i]:bounds[i + 1]]`.

    With `top` those of the most frequent n-gram, the first of several, times its count, or 0 if none occurs twice; a
    space stands at the end of each word, and the last does not count. Otherwise those of all n-grams that occurred
    before, none counted twice. `letters[i + 1] - letters[i]` is the length of word i in characters.
    """
    words = len(bounds) - 1
    prefixes, powers = _prefixes(text, bounds, max(sizes))
    slots = np.empty(1 << (np.int64(np.log2(2 * words + 1)) + 1), dtype=np.int32)
    hashes = np.empty(words, dtype=np.uint64)
    begins = np.empty(words, dtype=np.int64)
    ends = np.empty(words, dtype=np.int64)
    counts = np.empty(words, dtype=np.int64)
    firsts = np.empty(words, dtype=np.int64)
    for number in range(len(sizes)):
        n = sizes[number]
        slots[:] = -1
        used = repeated = best = i = 0
        while i <= words - n:
            entry = _find(text, prefixes, powers, bounds[i], bounds[i + n] - top, slots, hashes, begins, ends, used)
            if entry == used:
                used += 1
                counts[entry], firsts[entry] = 1, i
                i += 1
            elif top:
                counts[entry] += 1
                i += 1
            else:
                repeated += letters[i + n] - letters[i]
                i += n
        if top and used:
            for entry in range(1, used):
                if counts[entry] > counts[best]:
                    best = entry
            if counts[best] > 1:
                size = letters[firsts[best] + n] - letters[firsts[best]] + n - 1
                repeated = size * counts[best]
        out[number] = repeated


def _counted(text: np.ndarray, bounds: np.ndarray, letters: np.ndarray, sizes: Iterable[int], top: bool) -> list[int]:
    asked = np.fromiter(sizes, dtype=np.int64)
    out = np.zeros(len(asked), dtype=np.int64)
    if len(asked) and len(bounds) > 1:
        _count(text, bounds, letters, asked, top, out)
    return out.tolist()


def top_characters(found: Survey, sizes: Collection[int]) -> list[int]:
    """For each n, datatrove's `find_top_duplicate` of the n-grams; 0 where none occurs twice.

    datatrove counts an n-gram that occurs once as well, which is a fifth of a text of some twenty words.
    """
    return _counted(found.joined, found.bounds, found.letters, sizes, top=True)


def duplicate_characters(found: Survey, sizes: Collection[int]) -> list[int]:
    """For each n, datatrove's `find_all_duplicate`, which lays the words end to end."""
    bounds = found.bounds - np.arange(len(found.bounds))
    return _counted(found.joined[found.joined != SPACE], bounds, found.letters, sizes, top=False)


class FastGopherRepetition(GopherRepetitionFilter):
    """datatrove's filter with the project's word splitter.

    Args:
        paragraphs: repeated paragraphs, and characters in repeated lines and paragraphs, count too.
    """

    def __init__(
        self,
        dup_line_frac: float | None = 0.3,
        top_n_grams: Mapping[int, float] = thresholds(ENGLISH).top_n_grams,
        dup_n_grams: Mapping[int, float] = thresholds(ENGLISH).repeated_n_grams,
        paragraphs: bool = True,
    ) -> None:
        super().__init__(dup_line_frac=dup_line_frac, top_n_grams=(), dup_n_grams=())
        self.tops, self.duplicates = dict(top_n_grams), dict(dup_n_grams)
        self.paragraphs = paragraphs

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether the document stays, or the reason why not."""
        if not doc.text:
            return False, "empty"
        reason = self._repeated_parts(doc.text) or self._repeated_words(survey(doc.text), len(doc.text))
        return (False, reason) if reason else True

    def _repeated_parts(self, text: str) -> str | None:
        if self.paragraphs:
            paragraphs = [bare for part in text.strip().split("\n\n") if (bare := part.lstrip("\n"))] or [""]
            again, characters = repeats(paragraphs)
            if again / len(paragraphs) > self.dup_para_frac:
                return "dup_para_frac"
            if characters / len(text) > self.dup_para_char_frac:
                return "dup_para_char_frac"
        edges = [""] * (text.startswith("\n") + text.endswith("\n"))  # empty lines are there for datatrove as well
        lines = [*filter(None, text.split("\n")), *edges]
        again, characters = repeats(lines)
        if self.dup_line_frac and again / len(lines) > self.dup_line_frac:
            return "dup_line_frac"
        if self.paragraphs and characters / len(text) > self.dup_line_char_frac:
            return "dup_line_char_frac"
        return None

    def _repeated_words(self, found: Survey, characters: int) -> str | None:
        for (n, share), top in zip(self.tops.items(), top_characters(found, self.tops), strict=True):
            if top / characters > share:
                return f"top_{n}_gram"
        again = duplicate_characters(found, self.duplicates)
        for (n, share), repeated in zip(self.duplicates.items(), again, strict=True):
            if repeated / characters > share:
                return f"duplicated_{n}_n_grams"
        return None
