"""The text that a tokenizer is trained on: of each source the documents whose hashes are least, up to its share.

Two passes over the documents, which hold neither them nor their number: the first counts bytes by the leading bits of
the hash, so that the second knows at sight which documents are in; only those of the one bin in which a source's share
ends are held until their order is known. The last document is cut short.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from infra.errors import UserError
from pipeline.tasks.documents import document_files

__all__ = ["Sample"]

BIN_BITS = 16
MEASURED = 200_000
"""Bytes of each source kept to measure the compression on."""


class Sample:
    """At most `budget` bytes of the documents of an artifact, divided evenly among its sources.

    What a small source leaves, the others get. `texts` is to be read once; then `taken` and `measured` are known.

    Raises:
        UserError: there are no documents.
    """

    def __init__(self, artifact: Path, budget: int) -> None:
        self.artifact = artifact
        bins: dict[str, np.ndarray] = {}
        for source, key, text in self._documents():
            bins.setdefault(source, np.zeros(1 << BIN_BITS, dtype=np.int64))[_bin(key)] += len(text)
        if not bins:
            raise UserError(f"{artifact}: no documents to train a tokenizer on; look at what the stages before dropped")
        self.shares = shares({source: int(counts.sum()) for source, counts in bins.items()}, budget)
        """Bytes to take of each source."""
        self.taken = dict.fromkeys(sorted(bins), 0)
        """Bytes that were taken."""
        self._last = {source: _last_bin(bins[source], share) for source, share in self.shares.items()}
        self._last_measured = {
            source: _last_bin(bins[source], min(share, MEASURED)) for source, share in self.shares.items()
        }
        self._measured: dict[str, list[tuple[bytes, str]]] = {source: [] for source in self.taken}

    def texts(self) -> Iterator[str]:
        """The texts, in no particular order: training counts words."""
        boundary: dict[str, list[tuple[bytes, bytes]]] = {source: [] for source in self.taken}
        for source, key, text in self._documents():
            if _bin(key) < self._last[source]:
                yield self._take(source, key, text, len(text))
            elif _bin(key) == self._last[source]:
                boundary[source].append((key, text))
        for source, documents in boundary.items():
            for key, text in sorted(documents):
                left = self.shares[source] - self.taken[source]
                if left > 0:
                    yield self._take(source, key, text, left)

    def measured(self) -> dict[str, str]:
        """Of each source the first of the sample in the order of hashes."""
        return {
            source: "\n".join(text for _, text in sorted(documents)[:1000])[:MEASURED]
            for source, documents in self._measured.items()
        }

    def _take(self, source: str, key: bytes, content: bytes, most: int) -> str:
        text = content[:most].decode(errors="ignore")
        self.taken[source] += min(len(content), most)
        if _bin(key) <= self._last_measured[source]:
            self._measured[source].append((key, text))
        return text

    def _documents(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Source, hash and UTF-8 of every document."""
        for file in document_files(self.artifact):
            with pq.ParquetFile(file) as handle:
                for batch in handle.iter_batches(256, columns=["source", "text"]):
                    for source, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                        content = text.encode()
                        yield source, hashlib.blake2b(content, digest_size=16).digest(), content


def _bin(key: bytes) -> int:
    return key[0] << 8 | key[1]


def _last_bin(counts: np.ndarray, share: int) -> int:
    """The bin in which the first `share` bytes end."""
    return int(np.searchsorted(np.cumsum(counts), share, side="left"))


def shares(sizes: Mapping[str, int], budget: int) -> dict[str, int]:
    """Divide `budget` evenly; what a small source cannot use is divided among the others."""
    result: dict[str, int] = {}
    for place, (source, size) in enumerate(sorted(sizes.items(), key=lambda item: (item[1], item[0]))):
        result[source] = min(size, (budget - sum(result.values())) // (len(sizes) - place))
    return result
