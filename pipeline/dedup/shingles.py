"""A text as copies are judged by: folded as its profile says, split into words, every run of n words hashed.

`folded_words` is `" ".join(WORDS.word_tokenize(fold(text, how)))` and where each word ends, as bytes and in compiled
loops. The few characters whose folding depends on their neighbours take the slow way, with the same result.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np

from pipeline.dedup.section import Folding
from pipeline.text.characters import Characters, characters
from pipeline.text.folding import Fold, fold
from pipeline.text.kernels import IMPOSSIBLE, complete, shingle_hashes, simplify_bytes, split_words, utf8

__all__ = ["Words", "fold_of", "folded_words", "literal", "shingles"]

Words = tuple[np.ndarray, np.ndarray]
"""UTF-8 of the words with a space between two (uint8), and where each ends in it (int32)."""
KEPT = 1 << 20
"""Bytes of scratch memory kept from text to text."""
NOTHING = Fold()
STRUCTURE = re.compile(r"""[.,:;!?'"‘’“”…–—]+""")
"""Words that say nothing of a number or a formula."""
INDENTATION = re.compile(r"^[ \t]*(?=\S)", re.MULTILINE)


def fold_of(folding: Folding) -> Fold:
    """What `folding` sets aside of single characters."""
    return Fold(*(bool(getattr(folding, name)) for name in Fold._fields))


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


def folded_words(text: str, how: Fold) -> Words:
    """The words of the folded text; the arrays are scratch, good until the next call."""
    tables = characters(how)
    plain = utf8(text) if how == NOTHING else _folded(text, tables)
    if plain is None:
        plain = utf8(fold(text, how))
    joined, ends = _joined(2 * len(plain)), _ends(len(plain))
    count = complete(lambda: split_words(plain, joined, ends, tables.built, tables.kind), tables)[0]
    return joined[: ends[count - 1] if count else 0], ends[:count]


def _folded(text: str, tables: Characters) -> np.ndarray | None:
    """The folded text in UTF-8, or None where a character asks for the slow way."""
    data = utf8(text)
    out = _simple(3 * len(data))
    begin, end, state = complete(
        lambda: simplify_bytes(data, out, tables.built, tables.action, tables.begin, tables.length, tables.spelling),
        tables,
    )
    return None if state == IMPOSSIBLE else out[begin:end]


def shingles(words: Words, n: int) -> np.ndarray:
    """XXH64 of every run of `n` words, uint64."""
    joined, ends = words
    out = np.empty(max(0, len(ends) - n + 1), dtype=np.uint64)
    shingle_hashes(joined, ends, len(ends), n, out)
    return out


def literal(text: str, words: Words, folding: Folding) -> int:
    """A hash, of 64 bits, of what near copies must agree in besides their shingles; 0 where that is nothing.

    That is all numbers and operators of a short text, and its indentation where white space counts.
    """
    joined, ends = words
    if len(ends) >= (folding.literal_words or 0):
        return 0
    each = joined.tobytes().decode(errors="surrogatepass").split(" ")
    told = [word for word in each if not word.isalpha() and not STRUCTURE.fullmatch(word) and _counts(word)]
    if not folding.space:
        told += INDENTATION.findall(text)
    data = "\n".join(told).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _counts(word: str) -> bool:
    """Whether a word has a digit in it, or is of symbols alone."""
    return any(map(str.isdigit, word)) or not any(map(str.isalnum, word))
