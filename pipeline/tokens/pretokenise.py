"""DeepSeek-LLM's pre-tokenization as a compiled loop, and a table from the pieces it makes to their tokens.

BPE encodes every piece by itself, so a text's ids are those of its pieces one after another, and a corpus has few
different pieces. `PieceTable` remembers the ids of each, as the tokenizer's own BPE gave them; the loop cuts a text
into pieces as the regular expressions of `pipeline.tokens.tokenizer` would, one after the other, and looks them up.

That the cuts are the same is tested on every character and on any text, and looked at again on a sample of each corpus
(`pipeline.tokens.encoder`). Traded away: any other pre-tokenization.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import njit

from pipeline.text.kernels import decode, xxh64

__all__ = ["PieceTable", "character_classes"]

NEWLINE, SPACE, LETTER, PUNCTUATION, EAST_ASIAN, NUMBER = 1, 2, 4, 8, 16, 32
WHITE_SPACE = "9-D 20 85 A0 1680 2000-200A 2028-2029 202F 205F 3000"
CODE_POINTS = 0x110000
LAST_NUMBER = 0x20000
"""No character from here on is a number to Unicode."""
MOST_PIECES = 1 << 19
MOST_BYTES = 32 << 20
"""Pieces, and their bytes, that a table holds before it starts anew."""


@cache
def character_classes() -> np.ndarray:
    """For each code point, which of the classes it is in, uint8."""
    from tokenizers import pre_tokenizers

    from pipeline.tokens.own_split import EAST_ASIAN as EAST_ASIAN_RANGES
    from pipeline.tokens.own_split import LETTERS as LETTER_RANGES
    from pipeline.tokens.own_split import PUNCTUATION as PUNCTUATION_RANGES

    classes = np.zeros(CODE_POINTS, dtype=np.uint8)
    for bit, ranges in (
        (NEWLINE, "A D"),
        (SPACE, WHITE_SPACE),
        (LETTER, LETTER_RANGES),
        (PUNCTUATION, PUNCTUATION_RANGES),
        (EAST_ASIAN, EAST_ASIAN_RANGES),
    ):
        for item in ranges.split():
            first, _, last = item.partition("-")
            classes[int(first, 16) : int(last or first, 16) + 1] |= bit
    # Asked of the library, whose Unicode is newer than Python's: each character after a letter, to stand alone or not.
    codes = [code for code in range(LAST_NUMBER) if not 0xD800 <= code < 0xE000]
    text = "".join(f"a{chr(code)}" for code in codes)
    for _, (begin, end) in pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(text):
        if begin % 2 and end == begin + 1:
            classes[codes[begin // 2]] |= NUMBER
    return classes


@njit(cache=True)
def cut_pieces(text, classes, kind, at, cut):  # type: ignore[no-untyped-def]  # compiled: Numba infers the types
    """Cut UTF-8 `text` into pieces; returns the number of its characters.

    Character c has the classes `kind[c]` and begins at byte `at[c]`; `cut[c]` says whether a piece begins there. The
    passes are the splits of `pipeline.tokens.own_split.SPLITS` in order, each within the pieces that those before it
    left.
    """
    n = 0
    i = 0
    while i < len(text):
        at[n] = i
        code, i = decode(text, i)
        kind[n] = classes[code]
        cut[n] = False
        n += 1
    at[n] = len(text)
    cut[n] = True
    cut[0] = True
    for c in range(n):  # [\r\n]
        if kind[c] & NEWLINE:
            cut[c] = True
            cut[c + 1] = True
    for wanted in (LETTER, PUNCTUATION):  # \s?[class]+
        c = 0
        while c < n:
            begin = c
            if kind[c] & SPACE and not cut[c + 1] and kind[c + 1] & wanted:
                c += 1
            elif not kind[c] & wanted:
                c += 1
                continue
            c += 1
            while not cut[c] and kind[c] & wanted:
                c += 1
            cut[begin] = True
            cut[c] = True
    for end in range(n, 0, -1):  # \s+$
        if cut[end] and kind[end - 1] & SPACE:
            c = end - 1
            while not cut[c] and kind[c - 1] & SPACE:
                c -= 1
            cut[c] = True
    c = 0
    while c < n:  # [East Asian]+
        if kind[c] & EAST_ASIAN:
            cut[c] = True
            c += 1
            while not cut[c] and kind[c] & EAST_ASIAN:
                c += 1
            cut[c] = True
        else:
            c += 1
    for c in range(n):  # each digit
        if kind[c] & NUMBER:
            cut[c] = True
            cut[c + 1] = True
    return n


@njit(cache=True)
def find_ids(text, n, at, cut, slots, hashes, places, sizes, known, ends, ids, out, misses):  # type: ignore[no-untyped-def]
    """Write the ids of the pieces to `out` and the places of unknown pieces to `misses`; how many of each there are."""
    mask = len(slots) - 1
    count = missed = 0
    begin = 0
    for c in range(1, n + 1):
        if not cut[c]:
            continue
        end = at[c]
        size = end - begin
        hashed = xxh64(text, begin, end)
        slot = np.int64(hashed) & mask
        found = -1
        while slots[slot] >= 0:
            entry = slots[slot]
            if hashes[entry] == hashed and sizes[entry] == size:
                same = True
                for k in range(size):
                    if known[places[entry] + k] != text[begin + k]:
                        same = False
                        break
                if same:
                    found = entry
                    break
            slot = (slot + 1) & mask
        if found < 0:
            misses[missed, 0] = begin
            misses[missed, 1] = end
            missed += 1
        else:
            for k in range(ends[found - 1] if found else 0, ends[found]):
                out[count] = ids[k]
                count += 1
        begin = end
    return count, missed


@njit(cache=True)
def place_entries(slots, hashes, places, sizes, known, first, last, new):  # type: ignore[no-untyped-def]
    """Put entries into the table, having hashed them where they are new."""
    mask = len(slots) - 1
    for entry in range(first, last):
        if new:
            hashes[entry] = xxh64(known, places[entry], places[entry] + sizes[entry])
        slot = np.int64(hashes[entry]) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = entry


class PieceTable:
    """The ids of pieces, asked of `bpe` (pieces in, the ids of each out) once for each."""

    def __init__(self, bpe: Callable[[list[str]], list[list[int]]]) -> None:
        self.bpe = bpe
        self._clear()

    def _clear(self) -> None:
        self.pieces = 0
        self.slots = np.full(1 << 12, -1, dtype=np.int32)
        self.hashes = np.zeros(1 << 11, dtype=np.uint64)
        self.places = np.zeros(1 << 11, dtype=np.int64)
        self.sizes = np.zeros(1 << 11, dtype=np.int64)
        self.ends = np.zeros(1 << 11, dtype=np.int64)
        self.known = np.zeros(1 << 16, dtype=np.uint8)
        self.ids = np.zeros(1 << 14, dtype=np.uint32)
        self.used = self.id_count = 0

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, uint32."""
        data = np.frombuffer(text.encode(), dtype=np.uint8)
        if not len(data):
            return np.empty(0, dtype=np.uint32)
        kind = np.empty(len(data) + 1, dtype=np.uint8)
        at = np.empty(len(data) + 1, dtype=np.int32)
        cut = np.empty(len(data) + 1, dtype=np.bool_)
        n = cut_pieces(data, character_classes(), kind, at, cut)
        out = np.empty(len(data), dtype=np.uint32)
        misses = np.empty((np.count_nonzero(cut[: n + 1]), 2), dtype=np.int32)
        while True:
            tables = (self.slots, self.hashes, self.places, self.sizes, self.known, self.ends, self.ids)
            count, missed = find_ids(data, n, at, cut, *tables, out, misses)
            if not missed:
                return out[:count].copy()
            if self.pieces + missed > MOST_PIECES or self.used + len(data) > MOST_BYTES:
                self._clear()
                misses = np.empty((np.count_nonzero(cut[: n + 1]), 2), dtype=np.int32)
                self._add(data, self._spans(n, at, cut))
            else:
                self._add(data, misses[:missed])

    def _spans(self, n: int, at: np.ndarray, cut: np.ndarray) -> np.ndarray:
        """Begin and end of every piece."""
        edges = at[: n + 1][cut[: n + 1]]
        return np.stack([edges[:-1], edges[1:]], axis=1)

    def _add(self, data: np.ndarray, spans: np.ndarray) -> None:
        """Learn the pieces at `spans`, none of which the table holds."""
        text = data.tobytes()
        new = list(dict.fromkeys(text[begin:end] for begin, end in spans.tolist()))
        found = self.bpe([piece.decode() for piece in new])
        first = self.pieces
        self.pieces += len(new)
        sizes = np.asarray([len(piece) for piece in new], dtype=np.int64)
        counts = np.asarray([len(ids) for ids in found], dtype=np.int64)
        places, ends = self.used + np.cumsum(sizes), self.id_count + np.cumsum(counts)
        self._reserve(self.pieces, int(places[-1]), int(ends[-1]))
        inside = slice(first, self.pieces)
        self.places[inside], self.sizes[inside], self.ends[inside] = places - sizes, sizes, ends
        self.known[self.used : places[-1]] = np.frombuffer(b"".join(new), dtype=np.uint8)
        self.ids[self.id_count : ends[-1]] = np.concatenate([np.asarray(ids, dtype=np.uint32) for ids in found])
        self.used, self.id_count = int(places[-1]), int(ends[-1])
        place_entries(self.slots, self.hashes, self.places, self.sizes, self.known, first, self.pieces, True)

    def _reserve(self, entries: int, size: int, ids: int) -> None:
        """Make room for this many in all."""
        first = len(self.hashes)
        while entries > len(self.hashes):
            for name in ("hashes", "places", "sizes", "ends"):
                setattr(self, name, _doubled(getattr(self, name)))
        while size > len(self.known):
            self.known = _doubled(self.known)
        while ids > len(self.ids):
            self.ids = _doubled(self.ids)
        if len(self.hashes) > first:  # the slots are at most half full
            self.slots = np.full(2 * len(self.hashes), -1, dtype=np.int32)
            earlier = np.count_nonzero(self.sizes)
            place_entries(self.slots, self.hashes, self.places, self.sizes, self.known, 0, earlier, False)


def _doubled(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, np.zeros_like(array)])
