"""MinHash signatures and pairs, as datatrove's but faster.

`FastMinhashSignature` writes the very bytes of datatrove's first stage given the same words, by the compiled loops of
`pipeline.text.kernels`; it checks what it wrote as datatrove does. `FastMinhashBuckets` writes the very pairs of
datatrove's second stage (same files where there is one task per bucket), by sorting arrays in place of merging Python
tuples; it takes the hashes range by range, so that memory does not grow with the corpus. datatrove's third keeps
whichever document its union-find happens to make the root; `pipeline.dedup.clusters` keeps the one with the least key
instead.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

from pipeline.dedup.shingles import Words, folded_words, shingles
from pipeline.tasks.documents import Document
from pipeline.text.folding import FINEWEB
from pipeline.text.kernels import min_hashes
from pipeline.text.words import WORDS

__all__ = ["FastMinhashBuckets", "FastMinhashSignature", "in_order", "pairs", "record_dtype", "signature_outputs"]

BUFFERED = 4096
"""Signatures held before they are written: 4 MB."""
RANGE_RECORDS = 1_000_000
"""Signatures of one bucket that are sorted at once: some 150 MB with the sorting."""


def record_dtype(config: MinhashConfig) -> np.dtype:
    """One signature in a bucket's file: its hashes and the number of the document within its file."""
    hash_format = f"<{config.hash_config.struct_format}"
    return np.dtype([*((f"h{k}", hash_format) for k in range(config.hashes_per_bucket)), ("document", "<u4")])


def signature_outputs(buckets: int) -> dict[str, str]:
    """Where below an artifact's folder the signatures of a task lie, its number in braces, by the bucket's name."""
    return {
        f"bucket_{number:03d}": f".work/signatures/bucket_{number:03d}/{{:05d}}.minhash.sig"
        for number in range(buckets)
    }


WordsOf = Callable[[Document], tuple[Words, int]]


def _finewebs(document: Document) -> tuple[Words, int]:
    return folded_words(document.text, FINEWEB), 0


class FastMinhashSignature(MinhashDedupSignature):
    """datatrove's first stage with the project's word splitter; the files are the same given the same words.

    `words_of` gives the words of a document, and a hash that its copies must share, 0 for none; without it they are
    FineWeb's.
    """

    def __init__(self, output_folder: Path, config: MinhashConfig, words_of: WordsOf | None = None) -> None:
        super().__init__(str(output_folder), config, language=WORDS)
        self.words_of = words_of or _finewebs

    @cached_property
    def _permutations(self) -> tuple[np.ndarray, np.ndarray]:
        a, b = self.parameters
        return a[0], b[0]

    def signature(self, words: Words, salt: int = 0) -> np.ndarray | None:
        """The least hash of all shingles under each permutation, uint64 [hashes]; None for fewer words than one has."""
        hashes = shingles(words, self.config.n_grams) ^ np.uint64(salt)
        if not len(hashes):
            return None
        out = np.empty(self.num_hashes, dtype=np.uint64)
        min_hashes(hashes, *self._permutations, out)
        return out

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> None:
        """Write `bucket_000/<rank>.minhash.sig` and so on, the signatures of each sorted.

        Raises:
            ValueError: a file does not hold what was written to it.
        """
        config = self.config
        if (config.hash_config.hash_fc, config.hash_config.precision) != ("xxhash", 64):
            raise ValueError("the compiled loops know datatrove's default hash alone: 64 bits of xxhash")
        dtype = record_dtype(config)
        names = [f"bucket_{bucket:03d}/{rank:05d}.minhash.sig" for bucket in range(config.num_buckets)]
        files = [self.output_folder.open(name, mode="wb") for name in names]
        held = np.empty((BUFFERED, self.num_hashes), dtype=np.uint64)
        numbers = np.empty(BUFFERED, dtype=np.uint32)
        count = written = 0

        def write() -> None:
            shaped = held[:count].reshape(count, config.num_buckets, config.hashes_per_bucket)
            for bucket, file in enumerate(files):
                records = np.empty(count, dtype=dtype)
                for k in range(config.hashes_per_bucket):
                    records[f"h{k}"] = shaped[:, bucket, k]
                records["document"] = numbers[:count]
                file.write(records.tobytes())

        with self.track_time():
            for number, document in enumerate(data):
                self.stat_update("total")
                signature = self.signature(*self.words_of(document))
                if signature is not None:
                    held[count], numbers[count] = signature, number
                    count += 1
                    if count == BUFFERED:
                        write()
                        written, count = written + count, 0
            write()
            written += count
            for file, name in zip(files, names, strict=True):
                file.close()
                self._sort(name, dtype, written)

    def _sort(self, name: str, dtype: np.dtype, expected: int) -> None:
        """Sort the records of a file, and read again what was written: torn files were datatrove's sorest spot."""
        with self.output_folder.open(name, mode="rb") as file:
            records = np.frombuffer(file.read(), dtype=dtype)
        content = records[in_order(records)].tobytes()
        with self.output_folder.open(name, mode="wb") as file:
            file.write(content)
        with self.output_folder.open(name, mode="rb") as file:
            if len(records) != expected or file.read() != content:
                raise ValueError(f"{name}: does not hold the {expected} signatures written to it; is the disk sound?")


def in_order(records: np.ndarray) -> np.ndarray:
    """The order of records by all their fields.

    The first hash settles nearly all; only records that share it are compared by the rest.
    """
    order = np.argsort(records["h0"], kind="stable")
    first = records["h0"][order]
    same = np.flatnonzero(first[1:] == first[:-1])
    if len(same):
        tied = np.unique(np.concatenate((same, same + 1)))
        among = records[order[tied]]
        names = records.dtype.names or ()
        order[tied] = order[tied][np.lexsort([among[name] for name in reversed(names)])]
    return order


class FastMinhashBuckets(PipelineStep):
    """datatrove's second stage: the pairs of documents that share the signature of a bucket.

    Of documents a, b, c, ... with the same signature, in the order of files and of documents, the pairs are (a, b),
    (b, c), ... A whole number of tasks share a bucket, each takes a range of the hashes.
    """

    type = "DEDUP"
    name = "pairs"

    def __init__(self, input_folder: Path, output_folder: Path, config: MinhashConfig) -> None:
        super().__init__()
        self.input_folder, self.output_folder, self.config = input_folder, output_folder, config

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the pairs of one bucket, or of its share of the hashes."""
        share, rest = divmod(world_size, self.config.num_buckets)
        assert not rest, "a whole number of tasks per bucket"
        bucket, part = divmod(rank, share)
        dtype = record_dtype(self.config)
        paths = sorted((self.input_folder / f"bucket_{bucket:03d}").glob("*.minhash.sig"))
        files = [np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else None for path in paths]
        total = sum(len(file) for file in files if file is not None)
        pieces = share * max(1, -(-total // (RANGE_RECORDS * share)))
        # Hashes are uniform over the prime, but a minimum of many leans low: cut where the largest file has its shares.
        largest = max((file for file in files if file is not None), key=len, default=None)
        self.output_folder.mkdir(parents=True, exist_ok=True)
        path = self.output_folder / f"{bucket:05d}_{part:02d}.dups"
        with path.with_suffix(".partial").open("wb") as out:
            for piece in range(part * pieces // share, (part + 1) * pieces // share):
                low = _cut(largest, piece, pieces)
                high = _cut(largest, piece + 1, pieces)
                out.write(_equal_pairs(files, low, high).tobytes())
        path.with_suffix(".partial").replace(path)


def _cut(largest: np.ndarray | None, piece: int, pieces: int) -> int:
    """The first hash of a piece."""
    if piece == 0 or largest is None:
        return 0
    if piece == pieces:
        return 1 << 64
    return int(largest["h0"][len(largest) * piece // pieces])


def _equal_pairs(files: Sequence[np.ndarray | None], low: int, high: int) -> np.ndarray:
    """Pairs (file, document, file, document), uint32 [N, 4], of equal signatures whose first hash is in [low, high)."""
    parts, owners = [], []
    for place, file in enumerate(files):
        if file is None:
            continue
        begin, end = (bisect_left(file, bound, key=lambda record: int(record["h0"])) for bound in (low, high))
        parts.append(np.asarray(file[begin:end]))
        owners.append(np.full(end - begin, place, dtype=np.uint32))
    if not parts:
        return np.empty((0, 4), dtype="<u4")
    records, number = np.concatenate(parts), np.concatenate(owners)
    order = np.argsort(records["h0"], kind="stable")
    first = records["h0"][order]
    same = np.flatnonzero(first[1:] == first[:-1])
    tied = order[np.unique(np.concatenate((same, same + 1)))]
    records, number = records[tied], number[tied]  # few: all the rest have no twin
    hashes = [name for name in records.dtype.names or () if name != "document"]
    order = np.lexsort([records["document"], number, *(records[name] for name in reversed(hashes))])
    records, number = records[order], number[order]
    equal = np.ones(max(0, len(records) - 1), dtype=np.bool_)
    for name in hashes:
        equal &= records[name][1:] == records[name][:-1]
    at = np.flatnonzero(equal)
    columns = (number[at], records["document"][at], number[at + 1], records["document"][at + 1])
    return np.stack(columns, axis=1).astype("<u4")


def pairs(folder: Path) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The pairs of `(file, document)` that the second stage has written."""
    for file in sorted(folder.glob("*.dups")):
        for file_a, document_a, file_b, document_b in struct.iter_unpack("<4I", file.read_bytes()):
            yield (file_a, document_a), (file_b, document_b)
