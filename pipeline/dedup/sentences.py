"""Removes spans of sentences that occur more than once, all but one of each: C4's rule (arXiv 1910.10683, section 2.2).

A span is three consecutive sentences of a document, compared by their words. It stays in the document that comes first
in `precedence`, among those in the one with the least hash of its id, there at its first place; so what
stays does not depend on workers, files or order. What is left of the other documents is joined again; too little left,
and the document goes.

Two passes, with a file per task and partition between them: spans by the hash of their words, then the repeated ones
of each partition of the hashes. The hashes have 64 bits: two spans in 10^9 are taken for the same by mistake with a
probability of 3 %.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.base import PipelineStep

from infra import events
from pipeline.dedup.clusters import rank_of
from pipeline.dedup.section import DedupConfig
from pipeline.tasks.documents import Document
from pipeline.tasks.profiles import profile_of
from pipeline.tasks.verbatim import verbatim_of
from pipeline.text.words import WORDS

__all__ = ["PARTITIONS", "Cuts", "Repeats", "Spans", "cut", "sentences", "spans_of"]

PARTITIONS = 16
"""Parts of the hashes: tasks of the second pass, each with a sixteenth of all spans in memory."""
SPAN = np.dtype([("hash", "<u8"), ("rank", "<u4"), ("id", "<u8"), ("file", "<u4"), ("row", "<u4"), ("place", "<u4")])
CUT = np.dtype([("file", "<u4"), ("row", "<u4"), ("place", "<u4")])


def sentences(text: str) -> list[tuple[int, int]]:
    """Begin and end of each sentence; together they cover the text, white space going with the sentence before it."""
    spans: list[tuple[int, int]] = []
    for begin, end in WORDS.span_tokenize(text):
        if spans and not text[begin:end].strip():
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return spans


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Spans(PipelineStep):
    """First pass: writes the spans of the documents of its task that stay, by partition; passes nothing on."""

    type = "DEDUP"
    name = "spans"

    def __init__(self, folder: Path, config: DedupConfig, dropped: Path) -> None:
        super().__init__()
        self.folder, self.config, self.length, self.dropped = folder, config, config.sentence_span, dropped

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> None:
        import pyarrow.parquet as pq

        gone = set(pq.read_table(self.dropped / f"{rank:05d}.parquet", columns=["row"])["row"].to_pylist())
        found = []
        for row, document in enumerate(data):
            chosen = profile_of(document.metadata) in self.config.sentence_profiles
            if row not in gone and chosen and not verbatim_of(document.metadata):
                place = rank_of(self.config, document.metadata)
                name = _hash(document.id)
                found += [(span, place, name, rank, row, at) for at, span in enumerate(self._spans(document.text))]
        spans = np.array(found, dtype=SPAN)
        for partition in range(PARTITIONS):
            folder = self.folder / f"{partition:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{rank:05d}.npy", spans[spans["hash"] % PARTITIONS == partition])

    def _spans(self, text: str) -> list[int]:
        words = [" ".join(WORDS.word_tokenize(text[begin:end].lower())) for begin, end in sentences(text)]
        return [_hash("\n".join(words[at : at + self.length])) for at in range(len(words) - self.length + 1)]


class Repeats(PipelineStep):
    """Second pass: the places of all spans of its partition but the first of each."""

    type = "DEDUP"
    name = "repeats"

    def __init__(self, spans: Path, out: Path) -> None:
        super().__init__()
        self.spans, self.out = spans, out

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        files = sorted((self.spans / f"{rank:03d}").glob("*.npy"))
        spans = np.concatenate([np.load(file) for file in files])
        spans = spans[np.lexsort((spans["place"], spans["id"], spans["rank"], spans["hash"]))]
        again = np.flatnonzero(spans["hash"][1:] == spans["hash"][:-1]) + 1
        cuts = spans[["file", "row", "place"]][again].astype(CUT)
        self.out.mkdir(parents=True, exist_ok=True)
        np.save(self.out / f"{rank:03d}.npy", np.sort(cuts, order=["file", "row", "place"]))
        events.advance()
        events.flush()


class Cuts:
    """Where the documents of one file are to be cut."""

    def __init__(self, folder: Path, file: int) -> None:
        self.places: dict[int, list[int]] = {}
        for path in sorted(folder.glob("*.npy")):
            cuts = np.load(path)
            begin, end = np.searchsorted(cuts["file"], [file, file + 1])
            for row, place in cuts[["row", "place"]][begin:end].tolist():
                self.places.setdefault(row, []).append(place)


def spans_of(text: str, places: Iterable[int], length: int) -> Iterator[str]:
    """The sentences of `text` that are in the spans which begin at `places`."""
    gone = {place + offset for place in places for offset in range(length)}
    yield from (text[slice(*span)] for at, span in enumerate(sentences(text)) if at in gone)


def cut(text: str, places: Iterable[int], length: int) -> tuple[str, int]:
    """`text` without the sentences of the spans that begin at `places`, and how many sentences that were."""
    gone = {place + offset for place in places for offset in range(length)}
    kept: Iterator[str] = (text[slice(*span)] for at, span in enumerate(sentences(text)) if at not in gone)
    return "".join(kept).strip(), len(gone)
