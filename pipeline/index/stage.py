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
from datatrove.pipeline.base import PipelineStep

from infra import events
from pipeline.index.card import CARD, KEY_TOKENS, IndexCard, IndexMetrics, PieceEntry, key_levels
from pipeline.index.section import IndexConfig
from pipeline.tasks.documents import run_pipeline
from pipeline.tokens.card import ShardsCard
from pipeline.tokens.names import card_of
from pipeline.tokens.stream import TokenStream

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
        tokens, starts, documents = TokenStream(self.shards, "train", task.source).documents(*task.rows)
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
