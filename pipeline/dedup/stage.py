"""Removes copies across all sources: exact ones, near ones by MinHash-LSH, and by choice repeated sentences.

Documents of the same characters, documents that are the same once what their profile folds is set aside, and documents
that share a band of their MinHash signatures are joined; of each connected group the document stays that comes first in
`precedence`, or by its profile, among those of one rank the one with the least source and id. So what stays does not
depend on how many workers ran or how the documents lie in files. A removed document is among the rejects under `exact`,
`folded` or `minhash`, with the id and source of the one that stays in its metadata: `deepmill duplicates` shows them.

What a text is, its profile, decides what is folded (`pipeline/dedup/section.py`): pages and books are copies whatever
their case, punctuation and hyphenation; of maths and code every number and operator counts.

Where the stage keeps parts, new documents are compared with those before through a kept index
(`pipeline.dedup.bands`), and files are filtered again of which something else goes than before.

Four passes: keys and signatures (a task per file), pairs (one or several per band), clusters (one process while it can
hold them, else rounds of tasks: `pipeline/dedup/removals.py`), and the filter (a task per file). Sentences take two
more (see `pipeline/dedup/sentences.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig

from infra import events
from infra.errors import UserError
from infra.hashing import file_digest
from infra.kept_parts import kept_parts
from pipeline.dedup.bands import KeptBands
from pipeline.dedup.clusters import KEYS, rank_of
from pipeline.dedup.minhash import FastMinhashBuckets, FastMinhashSignature, signature_outputs
from pipeline.dedup.removals import write_removals
from pipeline.dedup.section import DedupConfig
from pipeline.dedup.sentences import PARTITIONS, Cuts, Repeats, Spans, cut, spans_of
from pipeline.dedup.shingles import Words, fold_of, folded_words, literal
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
from pipeline.tasks.ledger import DocumentMetrics
from pipeline.tasks.losses import Losses
from pipeline.tasks.profiles import profile_of
from pipeline.tasks.task_parts import OF_DOCUMENTS, TaskParts, parts_of_files
from pipeline.text.words import WORDS

__all__ = ["dedup"]

FEW = 50_000
"""Documents up to which one process finds the pairs sooner than others start."""
PAIRED = 20_000_000
"""Signatures of a band that one task compares: some seconds; of more documents a band has several tasks."""

SIGNED_BY = {
    *("precedence", "precedence_by_profile", "minhash", "foldings", "n_grams", "buckets", "hashes_per_bucket", "seed"),
}
"""Settings that keys and signatures follow from."""
KEY_OUTPUTS = {"keys": ".work/keys/{:05d}.parquet"}

REMEDY = "see what its documents are copies of, and whether extract.sources.{source}.profile fits"


def dedup(config: DedupConfig, inputs: Mapping[str, Path], out_dir: Path) -> DocumentMetrics:
    """Remove copies from the documents of `inputs["clean"]`.

    Raises:
        UserError: there are no documents.
    """
    artifact = inputs["clean"]
    work = out_dir / ".work"
    files, total = document_files(artifact), count_documents(artifact)
    if not total:
        raise UserError(f"{artifact}: no documents to deduplicate; look at what the stages before dropped")
    few: Literal[1] | None = 1 if total <= FEW else None
    events.begin("signatures", total, "documents")
    _pair(config, artifact, out_dir, few)
    events.begin("clusters", 1, "passes")
    write_removals(config, work)
    if config.sentences:
        events.begin("sentences", total, "documents")
        spans = Spans(work / "spans", config, work / "removals")
        run_pipeline([DocumentReader(artifact), spans], len(files), work, "spans")
        events.begin("repeats", PARTITIONS, "partitions")
        repeats = Repeats(work / "spans", work / "cuts")
        run_pipeline([repeats], PARTITIONS, work, "repeats", processes=few)
    events.begin("filtering", total, "documents")
    losses = Losses("dedup", config, REMEDY, source_characters(artifact))
    steps = [DocumentReader(artifact), DropCopies(config, out_dir, losses), DocumentWriter(out_dir)]
    settings = config.model_dump(mode="json", exclude={"max_loss", "max_loss_by_source", *SIGNED_BY})
    parts = parts_of_files(out_dir, artifact, files, OF_DOCUMENTS, settings)
    if parts:
        parts = parts.also_from([_decided(config, work, number) for number in range(len(files))])
    run_pipeline(steps, len(files), work, "filtering", processes=few, parts=parts)
    return losses.settled(work).metrics()


def _pair(config: DedupConfig, artifact: Path, out_dir: Path, few: Literal[1] | None) -> None:
    """Write the keys of all documents and, with MinHash, the pairs that share a band."""
    work, files = out_dir / ".work", document_files(artifact)
    compared = Compared(config)
    steps: list[Any] = [DocumentReader(artifact), Keys(work / "keys", config, compared)]
    settings = config.model_dump(mode="json", include=SIGNED_BY)
    if not config.minhash:
        parts = parts_of_files(out_dir, artifact, files, KEY_OUTPUTS, settings)
        run_pipeline(steps, len(files), work, "signing", parts=parts)
        return
    minhash = MinhashConfig(
        n_grams=config.n_grams,
        num_buckets=config.buckets,
        hashes_per_bucket=config.hashes_per_bucket,
        seed=config.seed,
    )
    steps.append(FastMinhashSignature(work / "signatures", minhash, compared))
    signatures = signature_outputs(config.buckets)
    parts = parts_of_files(out_dir, artifact, files, KEY_OUTPUTS | signatures, settings)
    bands = _kept_bands(parts, work, len(files), config.buckets)
    if parts and bands:
        parts = parts.sparing(signatures, bands.covered)
    run_pipeline(steps, len(files), work, "signing", parts=parts)
    events.begin("pairs", config.buckets, "buckets")
    if bands:
        pairing = bands.pairing(work / "signatures", work / "pairs", minhash)
        run_pipeline([pairing], config.buckets, work, "pairing", processes=few)
        bands.keep(pairing)
    else:
        buckets = FastMinhashBuckets(work / "signatures", work / "pairs", minhash)
        tasks = config.buckets * -(-count_documents(artifact) // PAIRED)
        run_pipeline([buckets], tasks, work, "pairing", processes=few)


def _kept_bands(signing: TaskParts | None, work: Path, files: int, buckets: int) -> KeptBands | None:
    """The index of what was compared before; None where nothing is kept."""
    kept = kept_parts()
    if signing is None or kept is None:
        return None
    keys = [kept.key(signing.key("signing", number)) for number in range(files)]
    return KeptBands(kept, work / "bands", keys, buckets)


def _decided(config: DedupConfig, work: Path, number: int) -> list[Any]:
    """What the filter is told of a file: which documents go, and where others are cut."""
    cuts = sorted(Cuts(work / "cuts", number).places.items()) if config.sentences else []
    return [file_digest(work / "removals" / f"{number:05d}.parquet"), cuts]


class Compared:
    """The words of a document as its profile folds them, and what its near copies must share besides.

    Two steps ask for them, one right after the other: the last answer is kept.
    """

    def __init__(self, config: DedupConfig) -> None:
        self.config = config
        self.last: tuple[Document, tuple[Words, int]] | None = None

    def __call__(self, document: Document) -> tuple[Words, int]:
        """As `FastMinhashSignature` wants it; the arrays are good until the next document."""
        if self.last is None or self.last[0] is not document:
            folding = self.config.folding_of(profile_of(document.metadata))
            words = folded_words(document.text, fold_of(folding))
            self.last = (document, (words, literal(document.text, words, folding)))
        return self.last[1]


def _digest(data: Any) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


class Keys(PipelineStep):
    """Passes documents on, and writes a row of `KEYS` for each to `<folder>/<task>.parquet`."""

    type = "DEDUP"
    name = "keys"

    def __init__(self, folder: Path, config: DedupConfig, compared: Compared) -> None:
        super().__init__()
        self.folder, self.config, self.compared = folder, config, compared

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        rows: dict[str, list[Any]] = {name: [] for name in KEYS.names}
        for document in data:
            rows["id"].append(document.id)
            rows["source"].append(document.metadata["source"])
            rows["rank"].append(rank_of(self.config, document.metadata))
            rows["characters"].append(_digest(document.text.encode(errors="surrogatepass")))
            (words, ends), _ = self.compared(document)
            folds = len(ends) and self.config.folding_of(profile_of(document.metadata)).space
            rows["words"].append(_digest(words.data) if folds else rows["characters"][-1])
            yield document
        self.folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(rows, schema=KEYS), self.folder / f"{rank:05d}.parquet")


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
