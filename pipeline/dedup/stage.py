"""Removes copies across all sources: exact ones, near ones by MinHash-LSH, and by choice repeated sentences.

Documents that agree in every word, or that share a band of their MinHash signatures, are joined; of each connected
group the document stays whose source comes first in `precedence`, among those the one with the least id. So what stays
does not depend on how many workers ran or how the documents lie in files. A removed document is among the rejects under
`exact` or `minhash`, with the id and source of the one that stays in its metadata: `deepmill duplicates` shows them.

Four passes: keys and signatures (a task per file), pairs (a task per band), clusters (here: only documents that have a
copy are held), and the filter (a task per file). Sentences take two more (see `pipeline/dedup/sentences.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig

from infra import events
from infra.errors import UserError
from pipeline.dedup.clusters import KEYS, KeyFiles, join, near_edges, same_words
from pipeline.dedup.minhash import FastMinhashBuckets, FastMinhashSignature
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.sentences import PARTITIONS, Cuts, Repeats, Spans, cut, spans_of
from pipeline.dedup.shingles import simplified_words
from pipeline.tasks.documents import (
    CutWriter,
    Document,
    DocumentReader,
    DocumentWriter,
    RejectWriter,
    count_documents,
    document_files,
    run_pipeline,
    source_characters,
)
from pipeline.tasks.losses import Losses
from pipeline.text.words import WORDS

__all__ = ["dedup"]

FEW = 50_000
"""Documents up to which one process finds the pairs sooner than others start."""

REMEDY = "see what its documents are copies of, and whether dedup.precedence and dedup.exact fit {source}"


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

    events.begin("clusters", 1, "passes")
    _write_removals(config, work)
    if config.sentences:
        events.begin("sentences", total, "documents")
        spans = Spans(work / "spans", config.precedence, config.sentence_span, work / "removals")
        run_pipeline([DocumentReader(artifact), spans], files, work, "spans")
        events.begin("repeats", PARTITIONS, "partitions")
        repeats = Repeats(work / "spans", work / "cuts")
        run_pipeline([repeats], PARTITIONS, work, "repeats", processes=1 if total <= FEW else None)
    events.begin("filtering", total, "documents")
    losses = Losses("dedup", config, REMEDY, source_characters(artifact))
    steps = [DocumentReader(artifact), DropCopies(config, out_dir, losses), DocumentWriter(out_dir)]
    run_pipeline(steps, files, work, "filtering", processes=1 if total <= FEW else None)
    return losses.settled(work).metrics().written()


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
        pq.write_table(pa.table(rows, schema=KEYS), self.folder / f"{rank:05d}.parquet")


def _write_removals(config: DedupConfig, work: Path) -> None:
    """For each file the rows to remove, each with its rule, and the id and source of the document that stays."""
    keys = KeyFiles(work / "keys")
    exact = same_words(keys) if config.exact else np.empty((0, 2), dtype=np.int64)
    near = near_edges(work / "pairs", keys.begins) if config.minhash else np.empty((0, 2), dtype=np.int64)
    all_ = join(np.concatenate((exact, near)))
    stays, kept = all_.winners(keys, config.precedence)
    # A document goes as exact where another of the same words comes before it; that other may go as a near copy.
    same = join(exact)
    firsts, _ = same.winners(keys, config.precedence)
    is_exact = np.isin(all_.nodes, same.nodes[firsts[same.labels] != same.nodes])
    is_gone = stays[all_.labels] != all_.nodes
    (work / "removals").mkdir(parents=True, exist_ok=True)
    sources = pa.array([source for source, _ in kept], pa.string())
    names = pa.array([name for _, name in kept], pa.string())
    for number, where in keys.split(all_.nodes):
        gone = is_gone[where]
        labels = pa.array(all_.labels[where][gone])
        columns = {
            "row": pa.array(all_.nodes[where][gone] - keys.begins[number], pa.uint32()),
            "rule": pa.array(np.where(is_exact[where][gone], "exact", "minhash").tolist(), pa.string()),
            "kept": names.take(labels),
            "kept_source": sources.take(labels),
        }
        pq.write_table(pa.table(columns), work / "removals" / f"{number:05d}.parquet")


class DropCopies(PipelineStep):
    """Drops the documents that the removals name, cuts repeated sentences out of the others, and counts."""

    type = "FILTER"
    name = "copies"

    def __init__(self, config: DedupConfig, out_dir: Path, losses: Losses) -> None:
        super().__init__()
        self.config, self.out_dir, self.losses = config, out_dir, losses

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        work = self.out_dir / ".work"
        removals = {row.pop("row"): row for row in pq.read_table(work / "removals" / f"{rank:05d}.parquet").to_pylist()}
        cuts = Cuts(work / "cuts", rank).places if self.config.sentences else {}
        ledger = self.losses.ledger(work)
        with RejectWriter(self.out_dir, rank) as rejects, CutWriter(self.out_dir, rank) as cut_out:
            for row, document in enumerate(data):
                before = ledger.read(document)
                if removal := removals.get(row):
                    document.metadata |= {"kept": removal["kept"], "kept_source": removal["kept_source"]}
                    ledger.reject(document, removal["rule"], before)
                    rejects.write(document, removal["rule"])
                    continue
                if row in cuts:
                    text, removed = cut(document.text, cuts[row], self.config.sentence_span)
                    document.metadata["sentences_removed"] = removed
                    ledger.note("sentences_removed", removed)
                    if len(WORDS.word_tokenize(text)) < self.config.sentence_min_words:
                        ledger.reject(document, "sentences", before)
                        rejects.write(document, "sentences")
                        continue
                    repeated = "".join(spans_of(document.text, cuts[row], self.config.sentence_span))
                    cut_out.cut(document, "sentences", repeated)
                    ledger.example(document, "sentences", repeated)
                    document.text = text
                ledger.keep(document, before, rest="sentences")
                yield document
            ledger.save(work, rank)
