"""Reads token shards in training order.

The position of a run is one integer, its step. All else follows from (shards, seed, mixture, global batch, step):
the rows of a global batch are computed, not remembered, so a resume costs nothing and any number of ranks trains on the
same batches (rank r of w takes the rows r, r + w, r + 2w, ... of each).

Order without a mixture: every row of the split once per epoch, in an order that differs from epoch to epoch. With a
mixture: sources alternate in proportion to their weights, exactly so in every `MIXTURE_PERIOD` rows, and each source
goes through its own epochs, so a small source with a large weight repeats sooner. Both orders come from a keyed
permutation that is evaluated pointwise (a Feistel network with cycle walking), so no shuffled list is ever held.

Row groups are read as needed and a few are kept. On S3 or a slow disk, copy the artifact first.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from infra.errors import UserError

__all__ = ["MIXTURE_PERIOD", "Batch", "ShardReader", "permute"]

MIXTURE_PERIOD = 1024
CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch."""

    tokens: torch.Tensor
    """int64 [B / world, T]"""
    documents: torch.Tensor
    """int64 [B / world, T]: number of the document within its row, from 0; for attention masks."""
    rows: list[int]
    """Row numbers within the split."""


def permute(position: np.ndarray, size: int, *key: int | str) -> np.ndarray:
    """Image of each `position` (int64, in [0, size)) under a permutation of [0, size) that `key` picks.

    Four Feistel rounds over the least even number of bits that covers `size`; a value that falls outside is sent
    through again until it is inside (cycle walking: fewer than four times on average).
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    shift = np.uint64(half)
    digest = hashlib.blake2b(repr(key).encode(), digest_size=32).digest()
    rounds = np.frombuffer(digest, dtype="<u8")
    result = position.astype(np.uint64)
    pending = np.arange(len(result))
    while len(pending):
        left, right = result[pending] >> shift, result[pending] & mask
        for subkey in rounds:
            left, right = right, left ^ (_mix(right ^ subkey) & mask)
        result[pending] = (left << shift) | right
        pending = pending[result[pending] >= np.uint64(size)]
    return result.astype(np.int64)


def _mix(value: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64: every input bit reaches every output bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class ShardReader:
    """Global batches of one split of a `shards` artifact.

    Args:
        folder: the artifact.
        split: "train" or "validation".
        global_batch: rows of a step, over all ranks.
        seed: of the order.
        sequence_length: tokens of a row, where smaller than stored: a stored row then counts as several.
        mixture: weight of each source; a source left out is not read. None reads every row once per epoch.
        verify: compare every file of the split with its recorded checksum.

    Raises:
        UserError: a file is missing or damaged.
        ValueError: the split has no rows, or an argument does not fit the shards.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str,
        *,
        global_batch: int,
        seed: int = 0,
        sequence_length: int | None = None,
        mixture: Mapping[str, float] | None = None,
        verify: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.split = split
        self.global_batch = global_batch
        self.seed = seed
        self.state = 0
        """The step that `next` reads; set it to resume."""
        self.card = _read_card(self.folder)
        if split not in self.card["splits"]:
            raise ValueError(f"no split {split!r} in {self.folder}; there are {', '.join(sorted(self.card['splits']))}")
        if global_batch < 1:
            raise ValueError(f"global_batch is {global_batch}; it must be at least 1")
        stored = self.card["sequence_length"]
        self.sequence_length = sequence_length or stored
        if stored % self.sequence_length:
            raise ValueError(
                f"sequence_length {self.sequence_length} does not divide the {stored} tokens of a stored row"
            )
        self._pieces = stored // self.sequence_length
        self._dtype = np.dtype(self.card["dtype"]).newbyteorder("<")
        self._open(verify)
        if not self.rows:
            raise ValueError(
                f"{self.folder}: split {split!r} has no rows; add text or raise shards.validation_fraction"
            )
        self._weights(mixture)

    def _open(self, verify: bool) -> None:
        """Lay the files of all sources end to end: file f holds the stored rows first[f] to first[f + 1]."""
        self._files: list[Path] = []
        first = [0]
        self._source_rows: dict[str, tuple[int, int]] = {}
        for source, entry in sorted(self.card["splits"][self.split].items()):
            begin = first[-1]
            for file in entry["files"]:
                path = self.folder / file["name"]
                if verify:
                    _verify(path, file["sha256"])
                self._files.append(path)
                first.append(first[-1] + file["rows"])
            self._source_rows[source] = (begin * self._pieces, (first[-1] - begin) * self._pieces)
        self._first = np.asarray(first)
        self._handles: dict[int, tuple[pq.ParquetFile, int]] = {}
        self._cache: OrderedDict[tuple[int, int], tuple[np.ndarray, pa.Array, pa.Array]] = OrderedDict()

    def _weights(self, mixture: Mapping[str, float] | None) -> None:
        self.mixture = None
        if mixture is None:
            return
        known = {source for source, (_, count) in self._source_rows.items() if count}
        wanted = {source: float(weight) for source, weight in sorted(mixture.items()) if weight}
        if unknown := sorted(set(wanted) - known):
            raise ValueError(
                f"mixture names {', '.join(unknown)}; split {self.split!r} has rows of {', '.join(sorted(known))}"
            )
        if not wanted or min(wanted.values()) < 0:
            raise ValueError("mixture needs weights that are not negative, and one above zero")
        # Largest remainder: integer slots of a period that sum to it.
        total = sum(wanted.values())
        exact = np.asarray([weight / total * MIXTURE_PERIOD for weight in wanted.values()])
        slots = np.floor(exact).astype(np.int64)
        slots[np.argsort(slots - exact, kind="stable")[: MIXTURE_PERIOD - slots.sum()]] += 1
        if not slots.all():
            raise ValueError(f"mixture: a weight below 1/{MIXTURE_PERIOD} of the total would never be read")
        self.mixture = dict(zip(wanted, slots.tolist(), strict=True))

    @property
    def rows(self) -> int:
        """Rows of the split, all sources."""
        return int(self._first[-1]) * self._pieces

    def __len__(self) -> int:
        """Steps of one epoch without a mixture, the last one counted although it reaches into the next epoch."""
        return -(-self.rows // self.global_batch)

    @property
    def source_rows(self) -> dict[str, int]:
        """Rows of each source."""
        return {source: count for source, (_, count) in self._source_rows.items()}

    def step_rows(self, step: int) -> list[int]:
        """Row numbers of the global batch of `step`, in order."""
        if step < 0:
            raise ValueError(f"step is {step}; it must not be negative")
        positions = np.arange(step * self.global_batch, (step + 1) * self.global_batch, dtype=np.int64)
        if self.mixture is None:
            return self._shuffled(positions, "", 0, self.rows).tolist()
        rows = np.empty_like(positions)
        slots = np.asarray(list(self.mixture.values()))
        periods, places = np.divmod(positions, MIXTURE_PERIOD)
        for period in np.unique(periods):
            # A shuffled deck: card i is the source of the period's row i; the n-th card of a source is its n-th draw.
            cards = permute(np.arange(MIXTURE_PERIOD), MIXTURE_PERIOD, self.seed, "deck", int(period))
            deck = np.searchsorted(np.cumsum(slots), cards, side="right")
            for number, name in enumerate(self.mixture):
                nth = np.cumsum(deck == number) - 1
                here = np.flatnonzero(periods == period)
                here = here[deck[places[here]] == number]
                draws = period * slots[number] + nth[places[here]]
                rows[here] = self._shuffled(draws, name, *self._source_rows[name])
        return rows.tolist()

    def _shuffled(self, draws: np.ndarray, name: str, begin: int, count: int) -> np.ndarray:
        """The rows that the given draws of a source (0, 1, 2, ... over all epochs) fall on."""
        epochs, places = np.divmod(draws, count)
        rows = np.empty_like(draws)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            rows[inside] = begin + permute(places[inside], count, self.seed, name, int(epoch))
        return rows

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The share of `rank` of the global batch of `step`.

        Raises:
            ValueError: the global batch does not divide by `world`.
        """
        if self.global_batch % world:
            raise ValueError(f"a global batch of {self.global_batch} rows does not divide among {world} ranks")
        rows = self.step_rows(step)[rank::world]
        tokens = np.empty((len(rows), self.sequence_length), dtype=np.int64)
        documents = np.empty_like(tokens)
        for place, row in enumerate(rows):
            tokens[place], starts, _ = self._row(row)
            marks = np.zeros(self.sequence_length, dtype=np.int64)
            marks[starts[1:]] = 1
            documents[place] = np.cumsum(marks)
        return Batch(torch.from_numpy(tokens), torch.from_numpy(documents), rows)

    def next(self, rank: int = 0, world: int = 1) -> Batch:
        """The batch at `state`, which moves on by one."""
        batch = self.batch(self.state, rank, world)
        self.state += 1
        return batch

    def documents(self, step: int) -> list[dict[str, Any]]:
        """The documents that `step` trains on: `{"row", "index", "id", "url", "source"}`, in the order of the batch."""
        found = []
        for row in self.step_rows(step):
            for index in self._row(row)[2].tolist():
                entry = self._index.slice(index, 1).to_pylist()[0]
                found.append({"row": row, **{key: entry[key] for key in ("index", "id", "url", "source")}})
        return found

    @cached_property
    def _index(self) -> pa.Table:
        _verify(self.folder / "documents.parquet", self.card["documents"]["sha256"])
        return pq.read_table(self.folder / "documents.parquet", memory_map=True)

    def _row(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens [T], where each document starts, and the documents' indices, of one row of the split."""
        stored, piece = divmod(row, self._pieces)
        file = int(np.searchsorted(self._first, stored, side="right")) - 1
        tokens, documents, offsets, place = self._group(file, stored - int(self._first[file]))
        starts = np.asarray(offsets[place].values)
        indices = np.asarray(documents[place].values)
        begin, end = piece * self.sequence_length, (piece + 1) * self.sequence_length
        first, last = (
            int(np.searchsorted(starts, begin, side="right")) - 1,
            int(np.searchsorted(starts, end, side="left")),
        )
        starts = np.maximum(starts[first:last].astype(np.int64) - begin, 0)
        return tokens[place, begin:end], starts, indices[first:last]

    def _group(self, file: int, row: int) -> tuple[np.ndarray, pa.Array, pa.Array, int]:
        """The row group that holds row `row` of a file: tokens [rows, T], documents, offsets; and the place in it."""
        if file not in self._handles:
            handle = pq.ParquetFile(self._files[file], memory_map=True)
            self._handles[file] = (handle, handle.metadata.row_group(0).num_rows)
        handle, size = self._handles[file]
        key = (file, row // size)
        if key in self._cache:
            self._cache.move_to_end(key)
        else:
            table = handle.read_row_group(key[1], columns=["tokens", "documents", "offsets"]).combine_chunks()
            data = table["tokens"].chunk(0)
            width = data.type.byte_width
            count = len(data) * width // self._dtype.itemsize
            buffer = np.frombuffer(data.buffers()[1], self._dtype, offset=data.offset * width, count=count)
            tokens = buffer.reshape(len(data), -1)
            self._cache[key] = (tokens, table["documents"].chunk(0), table["offsets"].chunk(0))
            while len(self._cache) > max(1, CACHE_BYTES // tokens.nbytes):
                self._cache.popitem(last=False)
        return (*self._cache[key], row % size)


def _read_card(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "shards.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder}: no shards.json; this is not a shards artifact") from None


def _verify(path: Path, sha256: str) -> None:
    try:
        with path.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; make the shards again") from None
    if found != sha256:
        raise UserError(f"{path}: damaged (its checksum differs from shards.json); make the shards again")
