"""Reads token shards in training order.

The position of a run is one integer, its step. All else follows from (shards, seed, mixture, global batch, step):
the rows of a global batch are computed, not remembered, so a resume costs nothing and any number of ranks trains on the
same batches (rank r of w takes the rows r, r + w, r + 2w, ... of each).

Order without a mixture: every row of the split once per epoch, in an order that differs from epoch to epoch. With a
mixture: sources alternate in proportion to their weights, exactly so in every `MIXTURE_PERIOD` rows, and each source
goes through its own epochs, so a small source with a large weight repeats sooner. Both orders come from a keyed
permutation that is evaluated pointwise (a Feistel network with cycle walking), so no shuffled list is ever held.

A row is fetched by itself, from a mapped file or by a range of an object on S3 (`pipeline.tokens.rows`), and its
checksum is compared as it is read; opening reads `shards.json` and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from infra.errors import UserError
from pipeline.tokens.card import ShardFile
from pipeline.tokens.names import DocumentNames, card_of, open_file
from pipeline.tokens.rows import Pieces, checksum, open_files, read_pieces

__all__ = ["MIXTURE_PERIOD", "Batch", "ShardReader", "TracedDocument", "permute"]

MIXTURE_PERIOD = 1024


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch."""

    tokens: torch.Tensor
    """int64 [B / world, T]"""
    documents: torch.Tensor
    """int64 [B / world, T]: number of the document within its row, from 0; for attention masks."""
    rows: list[int]
    """Row numbers within the split."""


class TracedDocument(TypedDict):
    """A document that a row holds a piece of."""

    row: int
    index: int
    """Of the document among all of the split."""
    id: str
    url: str
    source: str


def permute(position: np.ndarray, size: int, *key: int | str, inverse: bool = False) -> np.ndarray:
    """Image of each `position` (int64, in [0, size)) under a permutation of [0, size) that `key` picks, or under its
    inverse.

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
        if inverse:
            for subkey in rounds[::-1]:
                left, right = right ^ (_mix(left ^ subkey) & mask), left
        else:
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
        folder: the artifact, a local folder or an address that fsspec knows.
        split: "train" or "validation".
        global_batch: rows of a step, over all ranks.
        seed: of the order.
        mixture: weight of each source; a source left out is not read. None reads every row once per epoch.
        verify: compare every row that is read with its checksum.

    Raises:
        UserError: a file is missing or cut short.
        ValueError: the split has no rows, or an argument does not fit the shards.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str,
        *,
        global_batch: int,
        seed: int = 0,
        mixture: Mapping[str, float] | None = None,
        verify: bool = True,
    ) -> None:
        self.folder = str(folder)
        self.verify = verify
        self.split = split
        self.global_batch = global_batch
        self.seed = seed
        self.card = card_of(self.folder)
        if split not in self.card.splits:
            raise ValueError(f"no split {split!r} in {self.folder}; there are {', '.join(sorted(self.card.splits))}")
        if global_batch < 1:
            raise ValueError(f"global_batch is {global_batch}; it must be at least 1")
        self.sequence_length = self.card.sequence_length
        self._dtype = np.dtype(self.card.dtype).newbyteorder("<")
        self._width = self.sequence_length * self._dtype.itemsize
        self._open()
        if not self.rows:
            raise ValueError(
                f"{self.folder}: split {split!r} has no rows; add text or raise shards.validation_fraction"
            )
        self._weights(mixture)

    def _open(self) -> None:
        """Lay the files of all sources end to end: file f holds the stored rows first[f] to first[f + 1]."""
        files: list[ShardFile] = []
        first = [0]
        self._source_rows: dict[str, tuple[int, int]] = {}
        for source, entry in sorted(self.card.splits[self.split].items()):
            begin = first[-1]
            files += entry.files
            first += (begin + np.cumsum([file.rows for file in entry.files], dtype=np.int64)).tolist()
            self._source_rows[source] = (begin, first[-1] - begin)
        self._first = np.asarray(first)
        self._entries = files
        self._files = open_files(self.folder, files)

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
        return int(self._first[-1])

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
        slots = list(self.mixture.values())
        periods, places = np.divmod(positions, MIXTURE_PERIOD)
        for period in np.unique(periods):
            deck = self._deck(int(period))
            for number, name in enumerate(self.mixture):
                nth = np.cumsum(deck == number) - 1
                here = np.flatnonzero(periods == period)
                here = here[deck[places[here]] == number]
                draws = period * slots[number] + nth[places[here]]
                rows[here] = self._shuffled(draws, name, *self._source_rows[name])
        return rows.tolist()

    def _deck(self, period: int) -> np.ndarray:
        """A shuffled deck: card i is the number of the source of the period's row i; the n-th card of a source is its
        n-th draw."""
        assert self.mixture is not None
        cards = permute(np.arange(MIXTURE_PERIOD), MIXTURE_PERIOD, self.seed, "deck", period)
        return np.searchsorted(np.cumsum(list(self.mixture.values())), cards, side="right")

    def steps_of(self, row: int, steps: int) -> list[int]:
        """Which of the first `steps` steps read a row of the split; computed by the inverse of the order."""
        positions = [
            each for each in self._positions(row, steps * self.global_batch) if each // self.global_batch < steps
        ]
        return sorted({position // self.global_batch for position in positions})

    def _positions(self, row: int, total: int) -> Iterator[int]:
        """Where a row stands in the order, up to position `total` and some further ones."""
        if self.mixture is None:
            yield from self._draws(row, "", 0, self.rows, total)
            return
        name, (begin, count) = next(each for each in self._source_rows.items() if row < sum(each[1]))
        if name not in self.mixture:
            return
        number, slots = list(self.mixture).index(name), self.mixture[name]
        for draw in self._draws(row, name, begin, count, -(-total // MIXTURE_PERIOD) * slots):
            period, nth = divmod(draw, slots)
            yield period * MIXTURE_PERIOD + int(np.flatnonzero(self._deck(period) == number)[nth])

    def _draws(self, row: int, name: str, begin: int, count: int, total: int) -> Iterator[int]:
        """Which of a source's first `total` draws fall on a row, and perhaps one more: one in each epoch."""
        for epoch in range(-(-total // count)):
            place = permute(np.asarray([row - begin]), count, self.seed, name, epoch, inverse=True)
            yield epoch * count + int(place[0])

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
        tokens = self._tokens(rows)
        # A document ends with the end-of-sequence token, which no text contains.
        ends = np.zeros(tokens.shape, dtype=np.int64)
        np.equal(tokens[:, :-1], self.card.eos, out=ends[:, 1:], casting="unsafe")
        documents = np.cumsum(ends, axis=1, out=ends)
        return Batch(torch.from_numpy(tokens), torch.from_numpy(documents), rows)

    def _tokens(self, rows: Sequence[int]) -> np.ndarray:
        """The tokens of some rows of the split, int64 [rows, T].

        Raises:
            UserError: a row does not have its checksum.
        """
        stored = np.asarray(rows, dtype=np.int64)
        files = np.searchsorted(self._first, stored, side="right") - 1
        within = stored - self._first[files]
        wanted: list[tuple[int, int, int]] = []
        for is_checksum, width in ((False, self._width), (True, 8))[: 2 if self.verify else 1]:
            for file, row in zip(files.tolist(), within.tolist(), strict=True):
                group, place = divmod(row, self.card.rows_per_group)
                entry = self._entries[file]
                begin = (entry.checksums_at if is_checksum else entry.tokens_at)[group]
                wanted.append((file, begin + place * width, width))
        found = self._files.ranges(wanted)
        tokens = np.empty((len(rows), self.sequence_length), dtype=np.int64)
        for place, data in enumerate(found[: len(rows)]):
            if self.verify and checksum(data) != int.from_bytes(found[len(rows) + place], "little"):
                raise UserError(
                    f"{self._files.name(int(files[place]))}: damaged (row {within[place]} does not have its checksum); "
                    "make the shards again"
                )
            tokens[place] = np.frombuffer(data, self._dtype)
        return tokens

    def rows_of(self, index: int) -> list[int]:
        """The rows of the split that hold a piece of a document; every row's list of documents is looked at."""
        found: list[int] = []
        for number, entry in enumerate(self._entries):
            with open_file(self.folder, entry.name) as handle:
                listed = read_pieces(handle, self.card.sequence_length)
            found += (self._first[number] + listed.rows[listed.documents == index]).tolist()
        return found

    def documents(self, step: int) -> list[TracedDocument]:
        """The documents that `step` trains on, in the order of the batch.

        Raises:
            UserError: a file is missing, or not the one that the card describes.
        """
        found: list[TracedDocument] = []
        index = DocumentNames(self.folder, self.card.documents.files)
        groups: dict[tuple[int, int], Pieces] = {}
        for row in self.step_rows(step):
            file = int(np.searchsorted(self._first, row, side="right")) - 1
            group, place = divmod(row - int(self._first[file]), self.card.rows_per_group)
            if (file, group) not in groups:
                with open_file(self.folder, self._entries[file].name) as handle:
                    groups[file, group] = read_pieces(handle, self.card.sequence_length, group)
            here = groups[file, group]
            held = here.documents[here.rows == place]
            found += [TracedDocument(row=row, index=number, **index[number]) for number in held.tolist()]
        return found
