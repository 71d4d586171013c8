"""MinHash signatures, as datatrove's but faster, and clusters whose survivor follows a stated precedence.

`FastMinhashSignature` writes the very bytes of datatrove's first stage given the same words: it normalises ASCII text
without looking at each character's Unicode category, hashes each distinct shingle once, and takes remainders by the
Mersenne prime 2^61 - 1 with shifts. datatrove's second stage then finds the pairs. Its third keeps whichever document
its union-find happens to make the root; `clusters` keeps the one with the least key instead.
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.text import simplify_text

from pipeline.words import WORDS

__all__ = ["FastMinhashSignature", "clusters", "pairs", "simplify"]

Node = TypeVar("Node", bound=Hashable)
PRIME = np.uint64((1 << 61) - 1)
CHUNK = 256
"""Shingles hashed at once: their hashes stay in the processor's cache."""


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


class FastMinhashSignature(MinhashDedupSignature):
    """datatrove's first stage with the project's word splitter; the files are the same given the same words."""

    def __init__(self, output_folder: Path, config: MinhashConfig, words: Any = WORDS) -> None:
        super().__init__(str(output_folder), config, language=words)

    def get_shingles(self, text: str) -> np.ndarray:
        """Hashes of the distinct word n-grams of a text, uint64 [N, 1]."""
        words = self.word_tokenizer.word_tokenize(simplify(text, self.config))
        n = self.config.n_grams
        grams = {" ".join(words[i : i + n]).encode(errors="surrogatepass") for i in range(len(words) - n + 1)}
        return np.fromiter(map(self._hash_func, grams), dtype=np.uint64, count=len(grams)).reshape(-1, 1)

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        a, b = self.parameters
        return a, b

    def get_signature(self, shingles: np.ndarray) -> list[list[int]]:
        """The least hash of all shingles under each permutation, by bucket."""
        a, b = self._columns
        least = np.full(self.num_hashes, np.iinfo(np.uint64).max, dtype=np.uint64)
        for start in range(0, len(shingles), CHUNK):
            hashes = shingles[start : start + CHUNK] * a + b
            # x mod (2^61 - 1): fold the high bits down, then subtract once where needed (the wrap makes it the larger).
            hashes = (hashes & PRIME) + (hashes >> np.uint64(61))
            hashes = np.minimum(hashes, hashes - PRIME)
            if self.config.hash_config.precision == 32:
                hashes = np.bitwise_and(hashes, self.config.hash_config.max)
            np.minimum(least, hashes.min(axis=0), out=least)
        buckets = np.split(least.astype(self.config.hash_config.np_dtype), self.config.num_buckets)
        return [bucket.tolist() for bucket in buckets]


def pairs(folder: Path) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The pairs of `(file, document)` that datatrove's second stage has written."""
    for file in sorted(folder.glob("*.dups")):
        for file_a, document_a, file_b, document_b in struct.iter_unpack("<4I", file.read_bytes()):
            yield (file_a, document_a), (file_b, document_b)


def clusters(edges: Iterable[tuple[Node, Node]], keys: Any) -> dict[Node, Node]:
    """For each node that has an edge, the node of its connected component with the least `keys[node]`.

    Neither the order nor the direction of the edges matters.
    """
    parent: dict[Node, Node] = {}

    def root(node: Node) -> Node:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in edges:
        a, b = root(a), root(b)
        if a != b:
            if keys[b] < keys[a]:
                a, b = b, a
            parent[b] = a
    return {node: root(node) for node in parent}
