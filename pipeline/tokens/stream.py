"""The documents of token shards, out of the rows that hold their tokens: one source of one split, its rows end to end.

Each document ends with the end-of-sequence token, which no text contains; only the last one of a stream may lack it,
where what did not fill a row was left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.tokens.names import card_of
from pipeline.tokens.rows import open_files, read_pieces

__all__ = ["TokenStream"]

ROWS_AT_ONCE = 256


class TokenStream:
    """The rows of one source in one split of a `shards` artifact in a local folder."""

    def __init__(self, folder: Path, split: str, source: str) -> None:
        self.card = card_of(str(folder))
        self.share = self.card.splits[split][source]
        self.length = self.card.sequence_length
        self.dtype = np.dtype(self.card.dtype).newbyteorder("<")
        self.paths = [folder / file.name for file in self.share.files]
        self.files = open_files(str(folder), self.share.files)
        self.first = np.cumsum([0, *(file.rows for file in self.share.files)])

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """The index in the shards of each document, and its tokens [N]."""
        for first in range(0, self.share.rows, ROWS_AT_ONCE):
            tokens, starts, indices = self.documents(first, min(first + ROWS_AT_ONCE, self.share.rows))
            if len(starts):
                yield from zip(indices.tolist(), np.split(tokens, starts[1:]), strict=True)

    def documents(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The documents that begin after the token before row `first` and no later than row `last` does.

        Returns:
            Their tokens [N], where in these each begins [D], and the index of each in the shards [D].
        """
        begin, end = self._boundary(first), self._boundary(last)
        if begin >= end:
            return np.empty(0, self.dtype), np.empty(0, np.int64), np.empty(0, np.int64)
        low, high = begin // self.length, -(-end // self.length)
        tokens = np.concatenate([self._tokens(row) for row in range(low, high)])
        tokens = tokens[begin - low * self.length : end - low * self.length]
        starts = np.concatenate(([0], np.flatnonzero(tokens[:-1] == self.card.eos) + 1))
        places, indices = zip(*self._listed(low, high), strict=True)
        listed = np.concatenate(places)
        found = np.searchsorted(listed, starts + begin)
        assert np.array_equal(listed[found], starts + begin), "the rows' documents are not where their tokens begin"
        return tokens, starts, np.concatenate(indices)[found]

    def _boundary(self, row: int) -> int:
        """The first token of a document that is not before row `row`; the end of all where there is none."""
        if row == 0:
            return 0
        for here in range(row - 1, self.share.rows):
            tokens = self._tokens(here)
            ends = np.flatnonzero(tokens == self.card.eos)
            if here == row - 1:
                ends = ends[ends == self.length - 1]
            if len(ends):
                return here * self.length + int(ends[0]) + 1
        return self.share.rows * self.length

    def _tokens(self, row: int) -> np.ndarray:
        file = int(np.searchsorted(self.first, row, side="right")) - 1
        group, place = divmod(row - int(self.first[file]), self.card.rows_per_group)
        width = self.length * self.dtype.itemsize
        begin = self.share.files[file].tokens_at[group] + place * width
        return np.frombuffer(self.files.ranges([(file, begin, width)])[0], self.dtype)

    def _listed(self, low: int, high: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For the row groups that hold the rows: where each listed document begins in the stream, and its index."""
        for number, path in enumerate(self.paths):
            base, end = self.first[number : number + 2].tolist()
            for group, begin in enumerate(range(base, end, self.card.rows_per_group)):
                if begin < high and begin + self.card.rows_per_group > low:
                    pieces = read_pieces(path, self.length, group)
                    yield (begin + pieces.rows) * self.length + pieces.begins, pieces.documents
