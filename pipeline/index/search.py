"""Binary search in suffix arrays, for many patterns at once.

A round looks at one suffix per pattern, so a search in n suffixes is log2(n) rounds of NumPy, however many patterns.
What a pattern shares with the suffixes at both bounds need not be compared again (Manber and Myers, 1993).

The first rounds look at keys, the first tokens of every so manieth suffix, which lie as in a B-tree: from an object
store a pattern costs a block of them per level, then one of the suffixes, then one of tokens for each round that is
left. Where keys cannot tell, because all of a key is shared, the rest of the rounds do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from infra.errors import UserError
from infra.ranges import RemoteFolder
from pipeline.index.card import CARD, FANOUT, KEY_TOKENS, IndexCard, PieceEntry, key_levels, read_index_card
from pipeline.index.columns import Blocks, Column, ColumnFile, FetchedColumn, MappedColumn

__all__ = ["Patterns", "Piece", "open_pieces"]

COLUMNS = 16
"""Tokens compared at a time."""
ENDED = -1
"""Stands behind the last token of a pattern or piece: less than all."""
AFTER_ALL = 1 << 40
"""Stands there to find the end of a pattern's suffixes."""
PIECES = "pieces"
"""Folder of an `index` artifact."""
BLOCK = 1024
"""Bytes fetched at a time where rows are asked for one by one."""
LARGE_BLOCK = 16_384
"""Where a search goes through all of them."""


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


@dataclass
class _Bounds:
    """Of each pattern: the suffixes before `low` are less, those from `high` on are not; and how many tokens it shares
    with the last of the former and the first of the latter."""

    low: np.ndarray
    high: np.ndarray
    shared_low: np.ndarray
    shared_high: np.ndarray

    @classmethod
    def of(cls, patterns: int, suffixes: int) -> _Bounds:
        """Before anything was looked at."""
        zeros = np.zeros(patterns, np.int64)
        return cls(zeros, np.full(patterns, suffixes), zeros.copy(), zeros.copy())

    def set(self, which: np.ndarray, suffixes: np.ndarray, is_less: np.ndarray, shared: np.ndarray) -> None:
        """What was found of the suffix that each of some patterns was compared with."""
        less, more = which[is_less], which[~is_less]
        self.low[less], self.shared_low[less] = suffixes[is_less] + 1, shared[is_less]
        self.high[more], self.shared_high[more] = suffixes[~is_less], shared[~is_less]


@dataclass(frozen=True)
class Piece:
    """A piece of the index."""

    entry: PieceEntry
    tokens: Column
    suffixes: Column
    keys: Column
    starts: Column
    documents: Column

    def longest(self, patterns: Patterns) -> np.ndarray:
        """How many of each pattern's first tokens stand somewhere in the piece."""
        found = self._bounds(patterns, ENDED)
        return np.maximum(found.shared_low, found.shared_high)

    def ranges(self, patterns: Patterns) -> tuple[np.ndarray, np.ndarray]:
        """Of each pattern the first suffix that begins with it, and the one after the last."""
        return self._bounds(patterns, ENDED).low, self._bounds(patterns, AFTER_ALL).low

    def places(self, first: int, last: int) -> np.ndarray:
        """Where some suffixes begin, int64."""
        return self.suffixes.take(np.arange(first, last)).astype(np.int64)

    def documents_at(self, places: np.ndarray) -> np.ndarray:
        """The index, in the shards, of the document that each token belongs to, int64."""
        low, high = np.ones(len(places), np.int64), np.full(len(places), len(self.starts))
        while len(open_ := np.flatnonzero(low < high)):
            middle = (low[open_] + high[open_]) // 2
            is_after = self.starts.take(middle) > places[open_]
            high[open_[is_after]], low[open_[~is_after]] = middle[is_after], middle[~is_after] + 1
        return self.documents.take(low - 1).astype(np.int64)

    def _bounds(self, patterns: Patterns, ended: int) -> _Bounds:
        """How many suffixes are less than each pattern."""
        found = _Bounds.of(len(patterns), len(self.suffixes))
        for first, count, apart in reversed(key_levels(self.entry.tokens)):
            self._by_keys(patterns, ended, found, first, count, apart)
        while len(open_ := np.flatnonzero(found.low < found.high)):
            middle = (found.low[open_] + found.high[open_]) // 2
            places = self.suffixes.take(middle).astype(np.int64)
            depths = np.minimum(found.shared_low[open_], found.shared_high[open_])
            shared, is_less = self._compare(patterns, open_, places, depths, ended)
            found.set(open_, middle, is_less, shared)
        return found

    def _by_keys(self, patterns: Patterns, ended: int, found: _Bounds, first: int, count: int, apart: int) -> None:
        """Narrow the bounds by the `count` keys of a level, which are those of suffixes so far `apart`."""
        low, high = -(-found.low // apart), np.minimum(-(-found.high // apart), count)
        depths = np.arange(KEY_TOKENS)
        while len(open_ := np.flatnonzero(low < high)):
            middle = (low[open_] + high[open_]) // 2
            keys = self.keys.take(first + middle).astype(np.int64)
            wanted = patterns.tokens(open_, np.broadcast_to(depths, keys.shape), ended)
            differs = wanted != keys
            shared = differs.argmax(axis=1)
            rows = np.arange(len(open_))
            there, asked = keys[rows, shared], wanted[rows, shared]
            # A key's last value of all may stand for the piece's end, which is less than all.
            told = differs.any(axis=1) & (there != np.iinfo(self.tokens.file.dtype).max)
            is_less = (there < asked) & told
            is_more = ~is_less & told
            low[open_[is_less]], high[open_[is_more]] = middle[is_less] + 1, middle[is_more]
            high[open_[~told]] = low[open_[~told]]  # no key of this level tells more
            found.set(open_[told], middle[told] * apart, is_less[told], shared[told])

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
            inside = there < len(self.tokens)
            found = np.where(inside, self.tokens.take(np.where(inside, there, 0)).astype(np.int64), ENDED - 1)
            differs = wanted != found
            first = np.where(differs.any(axis=1), differs.argmax(axis=1), COLUMNS)
            depths[still] += first
            done = first < COLUMNS
            rows, place = np.flatnonzero(done), first[done]
            asked = wanted[rows, place]
            is_less[still[done]] = (found[rows, place] < asked) & (asked != ENDED)  # what begins with all of it is not
            still = still[~done]
        return depths, is_less


def open_pieces(folder: str) -> tuple[IndexCard, list[Piece]]:
    """The pieces of an `index` artifact, a local folder or an address that fsspec knows.

    Raises:
        UserError: it is none, or a file is missing or cut short.
    """
    here, remote = Path(folder), RemoteFolder(folder) if "://" in folder else None
    try:
        body = remote.read(CARD) if remote else (here / CARD).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{folder}: no {CARD}; this is not an index artifact") from None
    card = read_index_card(body, folder)
    if remote:
        sizes, blocks = remote.sizes(PIECES), Blocks(remote)
    else:
        sizes = {path.name: path.stat().st_size for path in (here / PIECES).glob("*")}
    pieces = []
    for entry in card.pieces:
        files = _files(entry, np.dtype(card.dtype).newbyteorder("<"))
        for file in files:
            if sizes.get(file.name.rpartition("/")[2]) != file.size:
                raise UserError(f"{folder}/{file.name}: missing, or not as long as {CARD} says; make the index again")
        columns = [FetchedColumn(blocks, file) if remote else MappedColumn(here, file) for file in files]
        pieces.append(Piece(entry, *columns))
    return card, pieces


def _files(entry: PieceEntry, token: np.dtype) -> list[ColumnFile]:
    """The files of a piece, in the order of the columns of `Piece`."""
    keys = sum(count for _, count, _ in key_levels(entry.tokens))
    columns = {
        "tokens": (token.str, (entry.tokens,), BLOCK),
        "suffixes": ("<u4", (entry.tokens,), BLOCK),
        "keys": (token.str, (keys, KEY_TOKENS), FANOUT * KEY_TOKENS * token.itemsize),
        "starts": ("<u4", (entry.documents,), LARGE_BLOCK),
        "documents": ("<u8", (entry.documents,), BLOCK),
    }
    return [
        ColumnFile(f"{PIECES}/{entry.name}.{ending}", dtype, shape, block)
        for ending, (dtype, shape, block) in columns.items()
    ]
