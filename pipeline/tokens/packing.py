"""The second half of making shards: a task per file of rows puts the documents of a source in order and cuts rows.

The order of documents is that of a 64-bit hash, so a file's documents are those of a range of hashes: a task reads the
entries of that range from every file of entries, sorts them, and copies their tokens. It holds the entries of its own
file and one row group, whatever the size of the corpus.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep

from infra import events
from infra.hashing import file_digest
from pipeline.tokens.card import ShardFile
from pipeline.tokens.rows import checksum, value_offsets
from pipeline.tokens.tokenise import ENTRY, SPLITS, TokenisedTask

__all__ = ["Pack", "PackTask", "Tokenised", "plan"]

ROWS_PER_GROUP = 512
BIN_BITS = 16
"""The plan counts tokens by this many leading bits of the hash."""


@dataclass(frozen=True)
class Tokenised:
    """What the tokenising tasks left."""

    work: Path
    tasks: tuple[TokenisedTask, ...]
    firsts: tuple[int, ...]
    """Index of the first document of each task."""
    by_file: bool = False
    """Whether documents are mixed within each task, and not over all of them."""

    def __deepcopy__(self, memo: object) -> Tokenised:
        """Itself, which never changes: datatrove copies its steps for every task, and what all files left with them."""
        return self

    @classmethod
    def read(cls, work: Path, firsts: Sequence[int] | None = None) -> Tokenised:
        """From the work folder; with the indices of first documents, by file, else counted through."""
        files = sorted((work / "entries").glob("*.json"))
        tasks = tuple(TokenisedTask.model_validate_json(file.read_bytes()) for file in files)
        counted = np.cumsum([0, *(task.documents for task in tasks)], dtype=np.int64).tolist()
        return cls(work, tasks, tuple(counted[:-1] if firsts is None else firsts), firsts is not None)

    @property
    def sources(self) -> list[str]:
        """Every source, sorted."""
        return sorted({source for task in self.tasks for sources in task.places.values() for source in sources})

    def entries(self, task: int, split: str, source: str) -> np.ndarray:
        """The entries of one split and source in one task, in order, mapped."""
        begin, end = self.tasks[task].places[split].get(source, (0, 0))
        if begin == end:
            return np.empty(0, dtype=ENTRY)
        return np.memmap(self.work / "entries" / f"{task:05d}.bin", dtype=ENTRY, mode="r")[begin:end]

    @property
    def documents(self) -> int:
        """Of all tasks."""
        return sum(task.documents for task in self.tasks)

    @property
    def tokens(self) -> int:
        """Of all tasks."""
        return sum(task.tokens for task in self.tasks)

    @property
    def text_bytes(self) -> int:
        """Of all tasks."""
        return sum(task.text_bytes for task in self.tasks)

    def characters(self, split: str, source: str) -> int:
        """Characters of the documents of one split and source."""
        return sum(task.characters[split].get(source, 0) for task in self.tasks)

    def last(self, split: str, source: str, tokens: int, dtype: np.dtype) -> np.ndarray:
        """The last `tokens` tokens of one split and source, of documents in their order."""
        found: list[tuple[int, int, int, np.ndarray]] = []
        for number, first in enumerate(self.firsts):
            entries = self.entries(number, split, source)
            if not len(entries):
                continue
            many = int(np.searchsorted(np.cumsum(entries["length"][::-1], dtype=np.int64), tokens)) + 1
            stream = np.memmap(self.work / "tokens" / f"{number:05d}.bin", dtype=dtype, mode="r")
            for order, start, length, row in entries[-many:].tolist():
                found.append((number * self.by_file, order, first + row, stream[start : start + length]))
        found.sort(key=lambda each: each[:3])
        return np.concatenate([each[-1] for each in found])[-tokens:] if tokens else np.empty(0, dtype)


@dataclass(frozen=True)
class PackTask:
    """The rows of one file."""

    split: str
    source: str
    number: int
    rows: tuple[int, int]
    """First row, and the one after the last, of the source's."""
    orders: tuple[int, int]
    """Hashes that the documents of these rows lie in."""
    skipped: int
    """Tokens of the source before the first of these documents."""
    among: tuple[int, int]
    """First task whose documents are in these rows, and the one after the last."""

    @property
    def name(self) -> str:
        """The file's, below the artifact."""
        return f"{self.split}/{self.source}-{self.number:05d}.parquet"


def plan(
    tokenised: Tokenised, length: int, rows_per_file: int
) -> tuple[list[PackTask], dict[tuple[str, str], tuple[int, int]]]:
    """The files to write, and for each split and source its documents and tokens."""
    tasks: list[PackTask] = []
    totals: dict[tuple[str, str], tuple[int, int]] = {}
    for split in SPLITS:
        for source in tokenised.sources:
            documents, before = _counted(tokenised, split, source)
            totals[split, source] = (documents, int(before[-1]))
            rows = int(before[-1]) // length
            for number, first in enumerate(range(0, rows, rows_per_file)):
                last = min(first + rows_per_file, rows)
                low = int(np.searchsorted(before, first * length, side="right")) - 1
                high = int(np.searchsorted(before, last * length, side="left"))
                shift = 64 - BIN_BITS
                orders, among = (low << shift, high << shift), (0, len(tokenised.tasks))
                if tokenised.by_file:
                    orders, among = (0, 1 << 64), (low, high)
                tasks.append(PackTask(split, source, number, (first, last), orders, int(before[low]), among))
    return tasks, totals


def _counted(tokenised: Tokenised, split: str, source: str) -> tuple[int, np.ndarray]:
    """Documents of one split and source, and its tokens before each task or each bin of hashes, and in all."""
    before = np.zeros((len(tokenised.tasks) if tokenised.by_file else 1 << BIN_BITS) + 1, dtype=np.int64)
    documents = 0
    for task in range(len(tokenised.tasks)):
        entries = tokenised.entries(task, split, source)
        documents += len(entries)
        if tokenised.by_file:
            before[task + 1] = entries["length"].sum(dtype=np.int64)
            continue
        bins = (entries["order"] >> np.uint64(64 - BIN_BITS)).astype(np.int64)
        counts = np.bincount(bins, weights=entries["length"], minlength=1 << BIN_BITS)
        before[1:] += counts.astype(np.int64)
    return documents, np.cumsum(before)


class Pack(PipelineStep):
    """The datatrove step that writes the file of its task, and into the work folder what the card says of it."""

    type = "TOKENS"
    name = "pack"

    def __init__(
        self, tokenised: Tokenised, tasks: Sequence[PackTask], length: int, dtype: np.dtype, out_dir: Path
    ) -> None:
        super().__init__()
        self.tokenised, self.tasks, self.length, self.dtype, self.out_dir = tokenised, tasks, length, dtype, out_dir

    def run(self, data: Iterable[Any] | None = None, rank: int = 0, world_size: int = 1) -> None:
        task = self.tasks[rank]
        path = self.out_dir / task.name
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = _schema(self.length * self.dtype.itemsize)
        with pq.ParquetWriter(
            path,
            schema,
            compression={name: "none" if name in ("tokens", "checksum") else "zstd" for name in schema.names},
            use_dictionary=["source"],
            write_statistics=["source"],
            data_page_size=1 << 30,  # a chunk is one page, whose values `pipeline.tokens.rows` can address
        ) as writer:
            for table in self._groups(task, schema):
                writer.write_table(table, row_group_size=ROWS_PER_GROUP)
                events.advance(len(table))
        events.flush()
        entry = ShardFile(
            name=task.name,
            rows=task.rows[1] - task.rows[0],
            bytes=path.stat().st_size,
            sha256=file_digest(path),
            tokens_at=value_offsets(path, "tokens", self.length * self.dtype.itemsize),
            checksums_at=value_offsets(path, "checksum", 8),
        )
        done = self.out_dir / ".work" / "packed"
        done.mkdir(parents=True, exist_ok=True)
        (done / f"{rank:05d}.json").write_text(entry.model_dump_json())

    def _groups(self, task: PackTask, schema: pa.Schema) -> Iterable[pa.Table]:
        entries, owner, index = self._documents(task)
        bounds = task.skipped + np.concatenate(([0], np.cumsum(entries["length"], dtype=np.int64)))
        tokens_of = cache(self._tokens)
        first, last = task.rows
        for low in range(first, last, ROWS_PER_GROUP):
            high = min(low + ROWS_PER_GROUP, last)
            begin, end = low * self.length, high * self.length
            pieces = []
            # Document k of the source's stream is entry k, at bounds[k]:bounds[k + 1].
            for k in range(*_covering(bounds, begin, end)):
                start = int(entries["start"][k]) - int(bounds[k])
                tokens = tokens_of(int(owner[k]))
                pieces.append(tokens[start + max(begin, int(bounds[k])) : start + min(end, int(bounds[k + 1]))])
            stream = np.concatenate(pieces).reshape(high - low, self.length)
            documents, offsets, counts = [], [], [0]
            for row in range(low, high):
                a, b = _covering(bounds, row * self.length, (row + 1) * self.length)
                documents.append(index[a:b])
                offsets.append(np.maximum(bounds[a:b] - row * self.length, 0))
                counts.append(counts[-1] + b - a)
            width = self.length * self.dtype.itemsize
            data = pa.py_buffer(stream.tobytes())
            cells = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), high - low, [None, data])
            yield pa.table(
                [
                    cells,
                    pa.array([checksum(row.data) for row in stream], pa.uint64()),
                    pa.ListArray.from_arrays(pa.array(counts, pa.int32()), pa.array(np.concatenate(documents))),
                    pa.ListArray.from_arrays(
                        pa.array(counts, pa.int32()), pa.array(np.concatenate(offsets).astype(np.uint32))
                    ),
                    pa.array([task.source] * (high - low)),
                ],
                schema=schema,
            )

    def _documents(self, task: PackTask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Entries of the documents in the task's range of hashes, in order; the task that has each; its index."""
        parts, owners, indices = [], [], []
        for number in range(*task.among):
            entries = self.tokenised.entries(number, task.split, task.source)
            low, high = (bisect_left(entries, bound, key=lambda entry: int(entry["order"])) for bound in task.orders)
            if low < high:
                part = np.asarray(entries[low:high])
                parts.append(part)
                owners.append(np.full(len(part), number, dtype=np.int32))
                indices.append(np.uint64(self.tokenised.firsts[number]) + part["row"].astype(np.uint64))
        entries, owner, index = (np.concatenate(arrays) for arrays in (parts, owners, indices))
        order = np.lexsort((index, entries["order"], owner) if self.tokenised.by_file else (index, entries["order"]))
        return entries[order], owner[order], index[order]

    def _tokens(self, task: int) -> np.ndarray:
        return np.memmap(self.tokenised.work / "tokens" / f"{task:05d}.bin", dtype=self.dtype, mode="r")


def _covering(bounds: np.ndarray, begin: int, end: int) -> tuple[int, int]:
    """First document with tokens in [begin, end), and the one after the last."""
    return int(np.searchsorted(bounds, begin, side="right")) - 1, int(np.searchsorted(bounds, end, side="left"))


def _schema(width: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("tokens", pa.binary(width), nullable=False),
            pa.field("checksum", pa.uint64(), nullable=False),
            ("documents", pa.list_(pa.uint64())),
            ("offsets", pa.list_(pa.uint32())),
            ("source", pa.string()),
        ]
    )
