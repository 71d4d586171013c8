"""Searches in the bytes of a page, compiled."""

from __future__ import annotations

import numpy as np
from numba import uint64

from pipeline.html.compiling import compiled, inlined

__all__ = ["find", "has", "hides", "is_letter", "raw_end", "walk"]

_EDGE = 0
"""Symbol of the edge of a word (`pipeline.html.names`)."""
_ONES, _HIGHS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)


@inlined
def walk(data, i, j, next_state, masks, symbols):  # type: ignore[no-untyped-def]  # compiled: Numba infers the types
    """What the words of data[i:j] tell."""
    state = abs(np.int64(next_state[0, _EDGE]))
    found = np.int64(0)
    small = False
    for k in range(i, j):
        byte = data[k]
        if small and 65 <= byte <= 90:
            state = np.int64(next_state[state, _EDGE])
            if state < 0:
                state = -state
                found |= masks[state]
        small = 97 <= byte <= 122
        state = np.int64(next_state[state, symbols[byte]])
        if state < 0:
            state = -state
            found |= masks[state]
    return found | masks[abs(np.int64(next_state[state, _EDGE]))]


@compiled
def has(data, i, j, word):  # type: ignore[no-untyped-def]
    """Whether data[i:j] has `word`, of small letters, whatever its case."""
    n = len(word)
    for k in range(i, j - n + 1):
        same = True
        for m in range(n):
            byte = data[k + m]
            if 65 <= byte <= 90:
                byte += 32
            if byte != word[m]:
                same = False
                break
        if same:
            return True
    return False


@compiled
def hides(data, i, j):  # type: ignore[no-untyped-def]
    """Whether the style data[i:j] hides its element."""
    return (
        has(data, i, j, b"display:none")
        or has(data, i, j, b"display: none")
        or has(data, i, j, b"visibility:hidden")
        or has(data, i, j, b"visibility: hidden")
    )


@compiled
def is_letter(data, i, j):  # type: ignore[no-untyped-def]
    """Whether the text that stands for a picture is one letter, as of an initial, or one sign, as an emoji."""
    return j - i == 1 or (0 < j - i <= 8 and data[i] >= 192)


@inlined
def find(data, eights, i, n, byte):  # type: ignore[no-untyped-def]
    """Where `byte` stands from i on, or n; `eights` are the same bytes by eights, of which each costs one step."""
    while i < n and i & 7:
        if data[i] == byte:
            return i
        i += 1
    word = i >> 3
    pattern = _ONES * uint64(byte)
    while word < len(eights):
        rest = eights[word] ^ pattern
        if (rest - _ONES) & ~rest & _HIGHS:  # one of its bytes is 0 (Mycroft 1987)
            break
        word += 1
    i = max(i, word << 3)
    while i < n and data[i] != byte:
        i += 1
    return i


@compiled
def _ends_comment(data, i, j):  # type: ignore[no-untyped-def]
    """Whether data[i:j] has `-->`."""
    for k in range(i + 2, j):
        if data[k] == 62 and data[k - 1] == 45 and data[k - 2] == 45:
            return True
    return False


@compiled
def raw_end(data, eights, i, n, name, length):  # type: ignore[no-untyped-def]
    """Where the end tag of a raw element stands whose content begins at i and whose name is data[name:name + length].

    In a comment inside of a script, a script within the script is part of it (HTML standard, 13.2.5.17 and after).
    """
    escaped = doubled = False
    script = length == 6 and data[name + 1] | 32 == 99  # the c of script
    begin = i
    while True:
        k = find(data, eights, i, n, 60)
        if k >= n:
            return n
        if escaped and _ends_comment(data, begin, k):
            escaped = doubled = False
        i = k + 1
        if script and k + 3 < n and data[k + 1] == 33 and data[k + 2] == 45 and data[k + 3] == 45:
            escaped = True
            begin = k + 2
            continue
        begin = max(begin, k - 1) if escaped else begin
        closing = k + 1 < n and data[k + 1] == 47
        at = k + 2 if closing else k + 1
        if at + length >= n or not (closing or (script and escaped)):
            continue
        same = True
        for m in range(length):
            if data[at + m] | 32 != data[name + m] | 32:
                same = False
                break
        after = data[at + length]
        if same and (after == 62 or after == 47 or after == 32 or (9 <= after <= 13 and after != 11)):
            if closing and not doubled:
                return k
            doubled = not closing
