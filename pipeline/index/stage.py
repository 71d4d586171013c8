"""A suffix array over the training tokens: every place of every run of tokens can be found by a binary search.

The tokens of a source, row after row, are cut into pieces of about `piece_tokens` at the ends of documents, a task per
piece. A task holds the tokens of its piece and, while they are sorted, some 22 bytes for each (36 where a token has
four bytes): memory goes by the piece, not by the corpus. The order is that of libdivsufsort over big-endian bytes,
where only the suffixes that begin with a token are kept; it depends on nothing but the tokens.

    pieces/<source>-00000.tokens      uint16 or uint32: the tokens, each document's end-of-sequence token included
    pieces/<source>-00000.suffixes    uint32: where each suffix begins in them, in lexicographic order
    pieces/<source>-00000.keys        the first 6 tokens of every 16th suffix, then every 256th of these, and so on
    pieces/<source>-00000.starts      uint32: where each document begins in them
    pieces/<source>-00000.documents   uint64: the document's index in the shards
    index.json                        what is there

All numbers are little-endian, without headers, to be mapped into memory or read by ranges: 6.8 bytes per token of two
bytes, 9.5 of four. Behind a piece's last token its keys go on with the largest number that a token can be.
No text encodes to the end-of-sequence token, so nothing that is looked up is found across two documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep

from infra import events
from pipeline.index.card import CARD, KEY_TOKENS, IndexCard, IndexMetrics, PieceEntry, key_levels
from pipeline.index.section import IndexConfig
from pipeline.tasks.documents import run_pipeline
from pipeline.tokens.card import ShardsCard
from pipeline.tokens.names import card_of
from pipeline.tokens.rows import open_files

__all__ = ["index"]

FEW = 2_000_000
"""Tokens up to which one process is done sooner than others start."""


def index(config: IndexConfig, inputs: Mapping[str, Path], out_dir: Path) -> IndexMetrics:
    """Sort the suffixes of the training tokens in `inputs["shards"]`."""
    shards = inputs["shards"]
    card = card_of(str(shards))
    tasks = _plan(card, config.piece_tokens)
    (out_dir / "pieces").mkdir(parents=True, exist_ok=True)
    work = out_dir / ".work"
    total = sum(task.rows[1] - task.rows[0] for task in tasks)
    events.begin("sorting suffixes", total, "rows")
    here = 1 if total * card.sequence_length <= FEW else None
    run_pipeline([_Sort(shards, tasks, out_dir)], len(tasks), work, "sorting", processes=here)  # type: ignore[arg-type]
    done = [PieceEntry.model_validate_json(file.read_bytes()) for file in sorted((work / "pieces").glob("*.json"))]
    pieces = [piece for piece in done if piece.tokens]
    found = IndexCard(dtype=card.dtype, eos=card.eos, pieces=pieces)
    (out_dir / CARD).write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return IndexMetrics(
        tokens=sum(piece.tokens for piece in pieces),
        documents=sum(piece.documents for piece in pieces),
        pieces=len(pieces),
        index_bytes=sum(file.stat().st_size for file in (out_dir / "pieces").iterdir()),
    )


@dataclass(frozen=True)
class _Task:
    """The documents that begin in some rows of a source."""

    source: str
    number: int
    rows: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.source}-{self.number:05d}"


def _plan(card: ShardsCard, piece_tokens: int) -> list[_Task]:
    step = max(1, piece_tokens // card.sequence_length)
    return [
        _Task(source, number, (first, min(first + step, share.rows)))
        for source, share in sorted(card.splits["train"].items())
        for number, first in enumerate(range(0, share.rows, step))
    ]


class _Sort(PipelineStep):
    """The datatrove step that writes the piece of its task, and into the work folder what the card says of it."""

    type = "TOKENS"
    name = "sort suffixes"

    def __init__(self, shards: Path, tasks: Sequence[_Task], out_dir: Path) -> None:
        super().__init__()
        self.shards, self.tasks, self.out_dir = shards, tasks, out_dir

    def run(self, data: Iterable[Any] | None = None, rank: int = 0, world_size: int = 1) -> None:
        task = self.tasks[rank]
        stream = _Stream(self.shards, task.source)
        tokens, starts, documents = stream.documents(*task.rows)
        path = self.out_dir / "pieces" / task.name
        if len(tokens):
            suffixes = suffix_array(tokens)
            columns = {
                "tokens": tokens,
                "suffixes": suffixes.astype("<u4"),
                "keys": keys_of(tokens, suffixes),
                "starts": starts.astype("<u4"),
                "documents": documents.astype("<u8"),
            }
            for ending, values in columns.items():
                values.tofile(path.with_name(f"{path.name}.{ending}"))
        events.advance(task.rows[1] - task.rows[0])
        events.flush()
        done = self.out_dir / ".work" / "pieces"
        done.mkdir(parents=True, exist_ok=True)
        entry = PieceEntry(name=task.name, source=task.source, tokens=len(tokens), documents=len(starts))
        (done / f"{rank:05d}.json").write_text(entry.model_dump_json())


def suffix_array(tokens: np.ndarray) -> np.ndarray:
    """Where the suffixes of `tokens` begin, in lexicographic order; one that is the start of another stands before it.

    Args:
        tokens: uint16 or uint32, at least one.
    """
    from pydivsufsort import divsufsort

    width = tokens.itemsize
    places = divsufsort(tokens.astype(tokens.dtype.newbyteorder(">")).view(np.uint8))
    return places[places % width == 0] // width


def keys_of(tokens: np.ndarray, suffixes: np.ndarray) -> np.ndarray:
    """The keys of all levels, one after the other [K, KEY_TOKENS]."""
    levels = key_levels(len(tokens))
    every = levels[0][2]
    places = suffixes[::every, None].astype(np.int64) + np.arange(KEY_TOKENS)
    inside = places < len(tokens)
    keys = np.where(inside, tokens[np.where(inside, places, 0)], np.iinfo(tokens.dtype).max).astype(tokens.dtype)
    return np.concatenate([keys[:: apart // every] for _, _, apart in levels])


class _Stream:
    """The training tokens of one source, its rows end to end."""

    def __init__(self, folder: Path, source: str) -> None:
        self.card = card_of(str(folder))
        self.share = self.card.splits["train"][source]
        self.length = self.card.sequence_length
        self.dtype = np.dtype(self.card.dtype).newbyteorder("<")
        self.paths = [folder / file.name for file in self.share.files]
        self.files = open_files(str(folder), self.share.files)
        self.first = np.cumsum([0, *(file.rows for file in self.share.files)])

    def documents(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The documents that begin after the token before row `first` and no later than row `last` does.

        Returns:
            Their tokens, where in these each begins, and the index of each in the shards.
        """
        begin, end = self._boundary(first), self._boundary(last)
        if begin >= end:
            return np.empty(0, self.dtype), np.empty(0, np.int64), np.empty(0, np.uint64)
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

    def _listed(self, low: int, high: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """For the row groups that hold the rows: where each listed document begins in the stream, and its index."""
        for number, path in enumerate(self.paths):
            base = int(self.first[number])
            if base >= high or int(self.first[number + 1]) <= low:
                continue
            opened = pq.ParquetFile(path)
            for group in range(opened.num_row_groups):
                here = base + group * self.card.rows_per_group
                if here >= high or here + self.card.rows_per_group <= low:
                    continue
                table = opened.read_row_group(group, ["documents", "offsets"]).combine_chunks()
                lists = table["offsets"].chunk(0)
                rows = here + np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
                yield rows * self.length + lists.flatten().to_numpy(), table["documents"].chunk(0).flatten().to_numpy()
