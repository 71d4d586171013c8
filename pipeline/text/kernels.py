"""Compiled loops over UTF-8 text: simplification, words, shingle hashes, MinHash signatures.

Each does what a plain Python function of datatrove or a pattern of `pipeline.text.alphabet` does, at some ten
nanoseconds a byte all together; the tests compare them on any text. Numba compiles at first use and keeps the machine
code beside this file.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit, uint64

from pipeline.text.characters import (
    BEFORE_DIGIT,
    DIGIT,
    HARD,
    IS_CONTINUING,
    IS_FORMAT,
    IS_JOINER,
    IS_LETTER,
    IS_SYMBOL,
    IS_UNSPACED,
    REPLACED,
    SEPARATORS,
    SPACE,
    Characters,
    characters,
)

__all__ = [
    "COMPLETE",
    "IMPOSSIBLE",
    "complete",
    "decode",
    "min_hashes",
    "shingle_hashes",
    "simplify_bytes",
    "split_words",
    "utf8",
    "word_end",
    "xxh64",
]

COMPLETE, IMPOSSIBLE = -1, -2
"""In place of the page that a kernel needs built: nothing is missing; the text needs the slow way."""
PRIME = np.uint64((1 << 61) - 1)
P1, P2, P3, P4, P5 = (
    np.uint64(value)
    for value in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)
_SEPARATORS = np.asarray(SEPARATORS, dtype=np.int64)


def utf8(text: str) -> np.ndarray:
    """The bytes of a text, uint8; half a surrogate pair is three of them."""
    return np.frombuffer(text.encode(errors="surrogatepass"), dtype=np.uint8)


def complete(kernel: Callable[[], tuple[int, ...]], tables: Characters | None = None) -> tuple[int, ...]:
    """Run a kernel, building the pages of characters it asks for by the last number it returns."""
    while (result := kernel())[-1] not in (COMPLETE, IMPOSSIBLE):
        (tables or characters()).build(result[-1])
    return result


@njit(inline="always")
def decode(text, i):  # type: ignore[no-untyped-def]  # compiled: Numba infers the types
    """Code point at byte i of valid UTF-8, and where the next begins."""
    first = np.int64(text[i])
    if first < 0x80:
        return first, i + 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | (np.int64(text[i + 1]) & 0x3F), i + 2
    if first < 0xF0:
        return (first & 0x0F) << 12 | (np.int64(text[i + 1]) & 0x3F) << 6 | (np.int64(text[i + 2]) & 0x3F), i + 3
    return (
        (first & 0x07) << 18
        | (np.int64(text[i + 1]) & 0x3F) << 12
        | (np.int64(text[i + 2]) & 0x3F) << 6
        | (np.int64(text[i + 3]) & 0x3F)
    ), i + 4


@njit(cache=True)
def simplify_bytes(text, out, built, action, begin, length, spelling):  # type: ignore[no-untyped-def]
    """`pipeline.text.folding.fold` of UTF-8 `text` into `out` (three times as long); where it starts and ends there.

    Third comes the page of characters that has to be built first, or COMPLETE, or IMPOSSIBLE.
    """
    n = len(text)
    i = k = 0
    space = False  # white space is due before the next character, whatever becomes of that
    while i < n:
        code, after = decode(text, i)
        if not built[code >> 8]:
            return 0, 0, code >> 8
        what = action[code]
        if what == BEFORE_DIGIT:
            near = after + 1 if after < n and text[after] == 0x20 else after
            what = REPLACED if near < n and 0x30 <= text[near] <= 0x39 else SPACE
        if what == SPACE:
            space = k > 0 or space
            i = after
            continue
        if what == HARD:
            return 0, 0, IMPOSSIBLE
        if space:
            out[k] = 0x20
            k += 1
            space = False
        if what == DIGIT:
            i = after
            fraction = False
            while i < n:
                code, after = decode(text, i)
                if not built[code >> 8]:
                    return 0, 0, code >> 8
                if action[code] == DIGIT:
                    i = after
                    continue
                if fraction or after >= n or not np.any(code == _SEPARATORS):
                    break
                code, beyond = decode(text, after)
                if not built[code >> 8]:
                    return 0, 0, code >> 8
                if action[code] != DIGIT:
                    break
                fraction = True
                i = beyond
            out[k] = 0x30
            k += 1
            continue
        start = begin[code]
        for place in range(start, start + length[code]):
            out[k] = spelling[place]
            k += 1
        i = after
    start = 0
    while start < k and out[start] == 0x20:
        start += 1
    while k > start and out[k - 1] == 0x20:
        k -= 1
    return start, k, COMPLETE


@njit(inline="always")
def word_end(text, i, n, what, built, kind):  # type: ignore[no-untyped-def]
    """Where the word ends that has begun with a character of kind `what` before byte i; and as `split_words`."""
    letter = what & IS_LETTER != 0
    goes_on = IS_CONTINUING if what & IS_UNSPACED else IS_LETTER | IS_CONTINUING if letter else IS_SYMBOL | IS_FORMAT
    while i < n:
        code, after = decode(text, i)
        if not built[code >> 8]:
            return i, code >> 8
        what = kind[code]
        if what & goes_on == 0:
            if not letter or what & IS_JOINER == 0 or after >= n:
                break
            code, _ = decode(text, after)
            if not built[code >> 8]:
                return i, code >> 8
            if kind[code] & IS_LETTER == 0:
                break
        i = after
    return i, COMPLETE


@njit(cache=True)
def split_words(text, out, ends, built, kind):  # type: ignore[no-untyped-def]
    """The words of UTF-8 `text` into `out`, a space between two, and where each ends there into `ends`.

    Returns the number of words, and a page to build or COMPLETE. `out` is twice as long as `text`, `ends` as long.
    """
    n = len(text)
    i = k = count = 0
    while i < n:
        begin = i
        code, i = decode(text, i)
        if not built[code >> 8]:
            return 0, code >> 8
        what = kind[code]
        if what & (IS_LETTER | IS_SYMBOL | IS_UNSPACED) == 0:
            continue
        i, missing = word_end(text, i, n, what, built, kind)
        if missing != COMPLETE:
            return 0, missing
        if count:
            out[k] = 0x20
            k += 1
        for place in range(begin, i):
            out[k] = text[place]
            k += 1
        ends[count] = k
        count += 1
    return count, COMPLETE


@njit(inline="always")
def _rotate(x, r):  # type: ignore[no-untyped-def]
    return (x << uint64(r)) | (x >> uint64(64 - r))


@njit(inline="always")
def _read64(data, i):  # type: ignore[no-untyped-def]
    return (
        uint64(data[i])
        | uint64(data[i + 1]) << uint64(8)
        | uint64(data[i + 2]) << uint64(16)
        | uint64(data[i + 3]) << uint64(24)
        | uint64(data[i + 4]) << uint64(32)
        | uint64(data[i + 5]) << uint64(40)
        | uint64(data[i + 6]) << uint64(48)
        | uint64(data[i + 7]) << uint64(56)
    )


@njit(inline="always")
def _round(accumulator, value):  # type: ignore[no-untyped-def]
    return _rotate(accumulator + value * P2, 31) * P1


@njit(cache=True)
def xxh64(data, i, end):  # type: ignore[no-untyped-def]
    """XXH64 with seed 0 of `data[i:end]`."""
    size = uint64(end - i)
    if end - i >= 32:
        a, b, c, d = P1 + P2, P2, uint64(0), uint64(0) - P1
        while i + 32 <= end:
            a = _round(a, _read64(data, i))
            b = _round(b, _read64(data, i + 8))
            c = _round(c, _read64(data, i + 16))
            d = _round(d, _read64(data, i + 24))
            i += 32
        h = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        h = (h ^ _round(uint64(0), a)) * P1 + P4
        h = (h ^ _round(uint64(0), b)) * P1 + P4
        h = (h ^ _round(uint64(0), c)) * P1 + P4
        h = (h ^ _round(uint64(0), d)) * P1 + P4
    else:
        h = P5
    h += size
    while i + 8 <= end:
        h = _rotate(h ^ _round(uint64(0), _read64(data, i)), 27) * P1 + P4
        i += 8
    if i + 4 <= end:
        four = (
            uint64(data[i])
            | uint64(data[i + 1]) << uint64(8)
            | uint64(data[i + 2]) << uint64(16)
            | uint64(data[i + 3]) << uint64(24)
        )
        h = _rotate(h ^ four * P1, 23) * P2 + P3
        i += 4
    while i < end:
        h = _rotate(h ^ uint64(data[i]) * P5, 11) * P1
        i += 1
    h = (h ^ (h >> uint64(33))) * P2
    h = (h ^ (h >> uint64(29))) * P3
    return h ^ (h >> uint64(32))


@njit(cache=True)
def shingle_hashes(words, ends, count, n, out):  # type: ignore[no-untyped-def]
    """XXH64 of every run of `n` words, a space between two; how many there are."""
    for i in range(count - n + 1):
        begin = ends[i - 1] + 1 if i else 0
        out[i] = xxh64(words, begin, ends[i + n - 1])
    return max(0, count - n + 1)


@njit(cache=True)
def min_hashes(hashes, a, b, out):  # type: ignore[no-untyped-def]
    """For each permutation the least of `(h a + b mod 2^64) mod (2^61 - 1)` over all `hashes`, which are not none."""
    out[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
    permutations = len(a)
    for h in hashes:
        for k in range(permutations):  # written so that eight permutations go through the processor at once
            value = h * a[k] + b[k]
            value = (value & PRIME) + (value >> np.uint64(61))
            less = value - PRIME  # below zero it wraps to the larger of the two
            value = less if less < value else value
            least = out[k]
            out[k] = value if value < least else least
