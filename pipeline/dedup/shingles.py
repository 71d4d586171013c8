"""A text as near-copies are judged by: simplified, split into words, every run of n words hashed.

`simplified_words` is `" ".join(WORDS.word_tokenize(simplify(text)))` and where each word ends, as bytes and in compiled
loops. The few characters whose simplification depends on their neighbours take the slow way, with the same result.
"""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.text import simplify_text

from pipeline.text.characters import characters
from pipeline.text.kernels import IMPOSSIBLE, complete, shingle_hashes, simplify_bytes, split_words, utf8

__all__ = ["Words", "shingles", "simplified_words", "simplify"]

Words = tuple[np.ndarray, np.ndarray]
"""UTF-8 of the words with a space between two (uint8), and where each ends in it (int32)."""
KEPT = 1 << 20
"""Bytes of scratch memory kept from text to text."""


@cache
def _marks() -> dict[int, None]:
    """A table for `str.translate` that deletes the combining marks (Mn)."""
    return {point: None for point in range(0x110000) if unicodedata.category(chr(point)) == "Mn"}


def simplify(text: str, config: MinhashConfig) -> str:
    """datatrove's `simplify_text`: lower case, numbers as 0, no punctuation, single spaces, no diacritics."""
    norm = config.norm_config
    if not norm.norm_unicode_diacritics:
        return simplify_text(text, norm)
    text = simplify_text(text, replace(norm, norm_unicode_diacritics=False))
    return text if text.isascii() else unicodedata.normalize("NFD", text).translate(_marks()).strip()


class _Scratch:
    """Memory that grows with the longest text and is handed out again."""

    def __init__(self, dtype: Any) -> None:
        self.memory = np.empty(0, dtype=dtype)

    def __call__(self, size: int) -> np.ndarray:
        if len(self.memory) < size:
            memory = np.empty(max(size, 4096), dtype=self.memory.dtype)
            if memory.nbytes > KEPT:
                return memory
            self.memory = memory
        return self.memory


_simple, _joined, _ends = _Scratch(np.uint8), _Scratch(np.uint8), _Scratch(np.int32)


def simplified_words(text: str, config: MinhashConfig) -> Words:
    """The words of the simplified text; the arrays are scratch, good until the next call."""
    tables = characters()
    plain = _simplified(text) if config.norm_config == MinhashConfig().norm_config else None
    if plain is None:
        plain = utf8(simplify(text, config))
    joined, ends = _joined(2 * len(plain)), _ends(len(plain))
    count = complete(lambda: split_words(plain, joined, ends, tables.built, tables.kind))[0]
    return joined[: ends[count - 1] if count else 0], ends[:count]


def _simplified(text: str) -> np.ndarray | None:
    """The simplified text in UTF-8, or None where a character asks for the slow way."""
    tables, data = characters(), utf8(text)
    out = _simple(3 * len(data))
    begin, end, state = complete(
        lambda: simplify_bytes(data, out, tables.built, tables.action, tables.begin, tables.length, tables.spelling)
    )
    return None if state == IMPOSSIBLE else out[begin:end]


def shingles(words: Words, n: int) -> np.ndarray:
    """XXH64 of every run of `n` words, uint64."""
    joined, ends = words
    out = np.empty(max(0, len(ends) - n + 1), dtype=np.uint64)
    shingle_hashes(joined, ends, len(ends), n, out)
    return out
