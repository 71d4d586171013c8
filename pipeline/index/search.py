"""Binary search in mapped suffix arrays, for many patterns at once.

A round looks at one suffix per pattern, so a search in n suffixes is log2(n) rounds of NumPy, however many patterns.
What a pattern shares with the suffixes at both bounds need not be compared again (Manber and Myers, 1993).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from infra.errors import UserError
from pipeline.index.card import IndexCard, PieceEntry, read_index_card

__all__ = ["Patterns", "Piece", "open_pieces"]

COLUMNS = 16
"""Tokens compared at a time."""
ENDED = -1
"""Stands behind the last token of a pattern or piece: less than all."""
AFTER_ALL = 1 << 40
"""Stands there to find the end of a pattern's suffixes."""


@dataclass(frozen=True)
class Patterns:
    """Runs of tokens to look up: each a head of its own, then the tokens of one text from some place on."""

    heads: np.ndarray
    """int64: the tokens of all heads, end to end."""
    begins: np.ndarray
    """Where in `heads` each pattern's begins,"""
    head_lengths: np.ndarray
    """and how many tokens it has."""
    text: np.ndarray
    """int64: the tokens of the text."""
    tails: np.ndarray
    """Where in `text` each pattern goes on."""
    lengths: np.ndarray
    """Tokens of each pattern, head included."""

    def __len__(self) -> int:
        return len(self.begins)

    def cut(self, chosen: Sequence[int], lengths: Sequence[int]) -> Patterns:
        """Some patterns, cut to so many tokens."""
        at = np.asarray(chosen, dtype=np.int64)
        return replace(
            self,
            begins=self.begins[at],
            head_lengths=self.head_lengths[at],
            tails=self.tails[at],
            lengths=np.asarray(lengths, dtype=np.int64),
        )

    def tokens(self, which: np.ndarray, depths: np.ndarray, ended: int) -> np.ndarray:
        """The tokens of patterns [k] at depths [k, c]; `ended` behind their last."""
        inside = depths - self.head_lengths[which][:, None]
        from_head = self.heads[np.clip(self.begins[which][:, None] + depths, 0, len(self.heads) - 1)]
        from_text = self.text[np.clip(self.tails[which][:, None] + inside, 0, len(self.text) - 1)]
        found = np.where(inside < 0, from_head, from_text)
        return np.where(depths < self.lengths[which][:, None], found, ended)


@dataclass(frozen=True)
class Piece:
    """A piece of the index, its files mapped."""

    entry: PieceEntry
    token_ids: np.ndarray
    suffixes: np.ndarray
    starts: np.ndarray
    documents: np.ndarray

    def longest(self, patterns: Patterns) -> np.ndarray:
        """How many of each pattern's first tokens stand somewhere in the piece."""
        return self._bound(patterns, ENDED)[1]

    def ranges(self, patterns: Patterns) -> tuple[np.ndarray, np.ndarray]:
        """Of each pattern the first suffix that begins with it, and the one after the last."""
        return self._bound(patterns, ENDED)[0], self._bound(patterns, AFTER_ALL)[0]

    def document(self, suffix: int) -> int:
        """The index, in the shards, of the document that a suffix begins in."""
        place = int(np.searchsorted(self.starts, self.suffixes[suffix], side="right")) - 1
        return int(self.documents[place])

    def _bound(self, patterns: Patterns, ended: int) -> tuple[np.ndarray, np.ndarray]:
        """How many suffixes are less than each pattern, and how many tokens it shares with the nearest."""
        count = len(patterns)
        low, high = np.zeros(count, np.int64), np.full(count, len(self.suffixes), np.int64)
        shared_low, shared_high = np.zeros(count, np.int64), np.zeros(count, np.int64)
        while len(open_ := np.flatnonzero(low < high)):
            middle = (low[open_] + high[open_]) // 2
            places = self.suffixes[middle].astype(np.int64)
            depths = np.minimum(shared_low[open_], shared_high[open_])
            depths, is_less = self._compare(patterns, open_, places, depths, ended)
            low[open_[is_less]], shared_low[open_[is_less]] = middle[is_less] + 1, depths[is_less]
            high[open_[~is_less]], shared_high[open_[~is_less]] = middle[~is_less], depths[~is_less]
        return low, np.maximum(shared_low, shared_high)

    def _compare(
        self, patterns: Patterns, which: np.ndarray, places: np.ndarray, depths: np.ndarray, ended: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """From `depths` on: how many tokens each pattern shares with the suffix at its place, and whether that one is
        less.
        """
        depths = depths.copy()
        is_less = np.zeros(len(which), bool)
        still = np.arange(len(which))
        columns = np.arange(COLUMNS)
        while len(still):
            at = depths[still][:, None] + columns
            wanted = patterns.tokens(which[still], at, ended)
            there = places[still][:, None] + at
            inside = there < len(self.token_ids)
            found = np.where(inside, self.token_ids[np.where(inside, there, 0)].astype(np.int64), ENDED - 1)
            differs = wanted != found
            first = np.where(differs.any(axis=1), differs.argmax(axis=1), COLUMNS)
            depths[still] += first
            done = first < COLUMNS
            rows, place = np.flatnonzero(done), first[done]
            asked = wanted[rows, place]
            is_less[still[done]] = (found[rows, place] < asked) & (asked != ENDED)  # what begins with all of it is not
            still = still[~done]
        return depths, is_less


def open_pieces(folder: Path) -> tuple[IndexCard, list[Piece]]:
    """The pieces of an `index` artifact.

    Raises:
        UserError: it is none, or a file is missing or cut short.
    """
    card = read_index_card(folder)
    return card, list(_open(folder, card))


def _open(folder: Path, card: IndexCard) -> Iterator[Piece]:
    kinds = {
        "tokens": np.dtype(card.dtype).newbyteorder("<").str,
        "suffixes": "<u4",
        "starts": "<u4",
        "documents": "<u8",
    }
    for entry in card.pieces:
        columns = []
        for ending, kind in kinds.items():
            path = folder / "pieces" / f"{entry.name}.{ending}"
            size = entry.tokens if ending in ("tokens", "suffixes") else entry.documents
            if not path.is_file() or path.stat().st_size != size * np.dtype(kind).itemsize:
                raise UserError(f"{path}: missing, or not as long as {folder.name} says; make the index again")
            columns.append(np.memmap(path, dtype=kind, mode="r"))
        yield Piece(entry, *columns)
