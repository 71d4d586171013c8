"""What came into the corpus between two runs, by source: documents, characters, copies, tokens.

Which documents are new is told by the files of the artifacts that differ: what `execution.keep_parts` takes over, and
what came out the same without it, is not read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from infra.manifest import Manifest
from infra.store import LocalStore, Store
from pipeline.tasks.ledger import DocumentMetrics
from pipeline.tokens.metrics import ShardMetrics

__all__ = ["growth"]

LAST = ("decontaminate", "quality", "recall", "dedup")
"""Stages after which a document is in the corpus: the last that both runs have."""
COPIES = ("copies of earlier documents", "copies of one another", "earlier documents gone as copies")


class _Row(NamedTuple):
    source: str
    kept: str
    """Id of the document that stays, of a copy; else empty."""


def growth(
    store: Store, before: Mapping[str, Manifest], after: Mapping[str, Manifest]
) -> Iterator[tuple[str, str, str]]:
    """What of each source is not as it was: its name and what is counted, the number before, and that after."""
    if "extract" not in before or "extract" not in after or before["extract"].content == after["extract"].content:
        return
    last = next((name for name in LAST if name in before and name in after), "extract")
    stages = {"extract": "read", last: "kept"}
    one, two = ({name: DocumentMetrics.read(run[name].metrics) for name in stages} for run in (before, after))
    tokens = [_tokens(run) for run in (before, after)]
    copies = _copies(store, before, after)
    for source in sorted({*one["extract"].by_source, *two["extract"].by_source}):
        for name, said in stages.items():
            accounts = [each[name].by_source.get(source) for each in (one, two)]
            documents = [account.documents_out if account else 0 for account in accounts]
            characters = [account.characters_out if account else 0 for account in accounts]
            yield from _told(f"{source}: documents {said}", *documents)
            yield from _told(f"{source}: characters {said}", *characters)
        for kind in COPIES:
            yield from _told(f"{source}: {kind}", 0, copies[source, kind])
        yield from _told(f"{source}: tokens", tokens[0][source], tokens[1][source])


def _told(name: str, before: int, after: int) -> Iterator[tuple[str, str, str]]:
    if before != after:
        yield name, f"{before:,}", f"{after:,} ({after - before:+,})"


def _tokens(run: Mapping[str, Manifest]) -> Counter[str]:
    """In rows, by source."""
    if "shards" not in run:
        return Counter()
    shards = ShardMetrics.read(run["shards"].metrics).by_source
    return Counter({name: each.train_tokens + each.validation_tokens for name, each in shards.items()})


def _copies(store: Store, before: Mapping[str, Manifest], after: Mapping[str, Manifest]) -> Counter[tuple[str, str]]:
    """By source and kind (`COPIES`), the documents that are copies now and were none, or were not there."""
    found: Counter[tuple[str, str]] = Counter()
    if not isinstance(store, LocalStore) or "dedup" not in before or "dedup" not in after:
        return found  # on S3 the artifacts would have to be fetched
    there = set(_rows(store, before["extract"], after["extract"], "documents"))
    new = set(_rows(store, after["extract"], before["extract"], "documents")) - there
    gone = _rows(store, after["dedup"], before["dedup"], "rejects")
    for name in _rows(store, before["dedup"], after["dedup"], "rejects"):
        gone.pop(name, None)
    for name, row in gone.items():
        of_earlier, of_new, earlier = COPIES
        found[row.source, earlier if name not in new else of_new if row.kept in new else of_earlier] += 1
    return found


def _rows(store: LocalStore, artifact: Manifest, other: Manifest, kind: str) -> dict[str, _Row]:
    """By id, the documents or rejects in files of an artifact that the other one does not have."""
    same = set(other.digests.values())
    folder = store.path(artifact.stage, artifact.identity)
    files = [path for path, digest in artifact.digests.items() if path.startswith(f"{kind}/") and digest not in same]
    return {name: row for path in files for name, row in _read(folder / path, kind)}


def _read(file: Path, kind: str) -> Iterator[tuple[str, _Row]]:
    columns = ["id", "source", *(["metadata"] if kind == "rejects" else [])]
    with pq.ParquetFile(file) as handle:
        for batch in handle.iter_batches(1024, columns=columns):
            for row in batch.to_pylist():
                kept = json.loads(row["metadata"] or "{}").get("kept", "") if kind == "rejects" else ""
                yield row["id"], _Row(row["source"], kept)
