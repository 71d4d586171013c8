"""Removes copies: exact ones, and near ones by MinHash-LSH, across all sources.

Documents that agree in every word, or that share a band of their MinHash signatures, are joined; of each connected
group the document stays whose source comes first in `precedence`, among those the one with the least id. So what stays
does not depend on how many workers ran or how the documents lie in files. A removed document is among the rejects under
`exact` or `minhash`, with the id and source of the one that stays in its metadata.

Four passes: keys and signatures (a task per file), pairs (a task per band), groups (here, in memory: only
documents that have a copy), and the filter (a task per file).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig

from infra import events
from infra.errors import UserError
from pipeline.documents import (
    Document,
    DocumentReader,
    DocumentWriter,
    RejectWriter,
    Tally,
    count_documents,
    document_files,
    merge_tallies,
    run_pipeline,
)
from pipeline.minhash import FastMinhashBuckets, FastMinhashSignature, clusters, pairs
from pipeline.sections import DedupConfig
from pipeline.shingles import simplified_words

__all__ = ["dedup"]

Place = tuple[int, int]
"""File and document within it."""
FEW = 50_000
"""Documents up to which one process finds the pairs sooner than others start."""


def dedup(config: DedupConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Remove copies from the documents of `inputs["clean"]`.

    Raises:
        UserError: there are no documents.
    """
    artifact = inputs["clean"]
    work = out_dir / ".work"
    files, total = len(document_files(artifact)), count_documents(artifact)
    if not total:
        raise UserError(f"{artifact}: no documents to deduplicate; look at what the stages before dropped")
    minhash = MinhashConfig(
        n_grams=config.n_grams,
        num_buckets=config.buckets,
        hashes_per_bucket=config.hashes_per_bucket,
        seed=config.seed,
    )
    events.begin("signatures", total, "documents")
    steps: list[Any] = [DocumentReader(artifact), Keys(work / "keys", minhash)]
    if config.minhash:
        steps.append(FastMinhashSignature(work / "signatures", minhash))
    run_pipeline(steps, files, work, "signing")

    if config.minhash:
        events.begin("pairs", config.buckets, "buckets")
        buckets = FastMinhashBuckets(work / "signatures", work / "pairs", minhash)
        run_pipeline([buckets], config.buckets, work, "pairing", processes=1 if total <= FEW else None)

    _write_removals(_removals(config, work), work / "removals", files)
    events.begin("filtering", total, "documents")
    steps = [DocumentReader(artifact), DropCopies(out_dir), DocumentWriter(out_dir)]
    run_pipeline(steps, files, work, "filtering", processes=1 if total <= FEW else None)
    return merge_tallies(work / "tally")


class Keys(PipelineStep):
    """Passes documents on, and writes their id, source and the hash of their words to `<folder>/<task>.parquet`."""

    type = "DEDUP"
    name = "keys"

    def __init__(self, folder: Path, config: MinhashConfig) -> None:
        super().__init__()
        self.folder, self.config = folder, config

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        rows: dict[str, list[Any]] = {"id": [], "source": [], "words": []}
        for document in data:
            rows["id"].append(document.id)
            rows["source"].append(document.metadata["source"])
            words, _ = simplified_words(document.text, self.config)
            rows["words"].append(hashlib.blake2b(words.data, digest_size=16).digest())
            yield document
        self.folder.mkdir(parents=True, exist_ok=True)
        schema = pa.schema([("id", pa.string()), ("source", pa.string()), ("words", pa.binary(16))])
        pq.write_table(pa.table(rows, schema=schema), self.folder / f"{rank:05d}.parquet")


def _removals(config: DedupConfig, work: Path) -> dict[Place, tuple[str, str, str]]:
    """For each document to remove: the rule, and the id and source of the one that stays."""
    tables = [pq.read_table(file) for file in sorted((work / "keys").glob("*.parquet"))]
    ranks = {source: rank for rank, source in enumerate(config.precedence)}
    keys: dict[Place, tuple[int, str, str, bytes, Place]] = {}
    first_with: dict[bytes, Place] = {}
    edges: list[tuple[Place, Place]] = list(pairs(work / "pairs")) if config.minhash else []
    for number, table in enumerate(tables):
        columns = (table[name].to_pylist() for name in ("id", "source", "words"))
        for row, (name, source, words) in enumerate(zip(*columns, strict=True)):
            place = (number, row)
            keys[place] = (ranks.get(source, len(ranks)), source, name, words, place)
            if config.exact and (twin := first_with.setdefault(words, place)) != place:
                edges.append((twin, place))
    kept = clusters(edges, keys)
    same_words: dict[bytes, Place] = {}
    for place in kept:
        words = keys[place][3]
        same_words[words] = min(same_words.get(words, place), place, key=keys.__getitem__)
    return {
        place: (
            "exact" if config.exact and same_words[keys[place][3]] != place else "minhash",
            keys[stays][2],
            keys[stays][1],
        )
        for place, stays in kept.items()
        if stays != place
    }


def _write_removals(removals: Mapping[Place, tuple[str, str, str]], folder: Path, files: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    by_file: list[list[tuple[int, tuple[str, str, str]]]] = [[] for _ in range(files)]
    for (file, row), entry in sorted(removals.items()):
        by_file[file].append((row, entry))
    for file, entries in enumerate(by_file):
        columns: dict[str, list[Any]] = {
            "row": [row for row, _ in entries],
            "rule": [entry[0] for _, entry in entries],
            "kept": [entry[1] for _, entry in entries],
            "kept_source": [entry[2] for _, entry in entries],
        }
        names = ("rule", "kept", "kept_source")
        schema = pa.schema([("row", pa.uint32()), *((name, pa.string()) for name in names)])
        pq.write_table(pa.table(columns, schema=schema), folder / f"{file:05d}.parquet")


class DropCopies(PipelineStep):
    """Drops the documents that the removals name, and tallies."""

    type = "FILTER"
    name = "copies"

    def __init__(self, out_dir: Path) -> None:
        super().__init__()
        self.out_dir = out_dir

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        work = self.out_dir / ".work"
        removals = {row.pop("row"): row for row in pq.read_table(work / "removals" / f"{rank:05d}.parquet").to_pylist()}
        tally = Tally()
        with RejectWriter(self.out_dir, rank) as rejects:
            for row, document in enumerate(data):
                tally.count(document, "in")
                if removal := removals.get(row):
                    document.metadata |= {"kept": removal["kept"], "kept_source": removal["kept_source"]}
                    tally.drop(removal["rule"])
                    rejects.write(document, removal["rule"])
                else:
                    tally.count(document, "out")
                    yield document
            tally.save(work / "tally", rank)
