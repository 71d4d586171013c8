"""Judges documents by a classifier that was taught with examples of one's own: a learned score of quality, as a stage.

fastText learns the positive examples against the negative ones, or against documents chosen by chance; each judged
document keeps its score in its metadata as `quality`. Of every source the best `keep` of its documents stay, and the
best of these become sources of their own (`buckets`), which mixture weights can favour. Both go by the place of a score
among its source's, so that a source whose texts are all unlike the examples loses no more than another.

Passes over the documents are tasks, one per file: one gathers examples where none are given, one judges, one sorts.
Held in memory here: a score for each document (4 bytes), and the names of their sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep

from infra import events
from infra.errors import UserError
from pipeline.recall.classifier import line_of, train
from pipeline.recall.examples import EXAMPLES, Sample, key_of, lines_of_files, of_task, write_table
from pipeline.recall.section import QualityConfig
from pipeline.recall.stage import Scores
from pipeline.tasks.documents import (
    Document,
    DocumentReader,
    DocumentWriter,
    RejectWriter,
    count_documents,
    document_files,
    run_pipeline,
)
from pipeline.tasks.ledger import DocumentMetrics, Ledger

__all__ = ["quality"]


class Bounds(NamedTuple):
    """Of one source."""

    least: float
    """Score below which a document goes."""
    names: tuple[tuple[float, str], ...]
    """Least score and name of each bucket, the best first."""


def quality(config: QualityConfig, inputs: Mapping[str, Path], out_dir: Path) -> DocumentMetrics:
    """Score, part and cut the documents of `inputs["dedup"]`.

    Raises:
        UserError: an example cannot be read, a kind of example is missing, or a source that is named is not there.
    """
    artifact, work = inputs["dedup"], out_dir / ".work"
    files, total = document_files(artifact), count_documents(artifact)
    sources = _judged(config, artifact, files)
    if not (work / "model.bin").exists():
        _learn(config, artifact, sources, work)
    events.begin("judging", total, "documents")
    scores = Scores(sources, config.classifier.characters, work)
    run_pipeline([DocumentReader(artifact), scores], len(files), work, "judging")
    bounds = _bounds(config, sources, files, work)
    events.begin("sorting", total, "documents")
    steps = [DocumentReader(artifact), Sort(bounds, work / "scores", out_dir), DocumentWriter(out_dir)]
    run_pipeline(steps, len(files), work, "sorting")
    told = {
        source: {"least": each.least, "buckets": {name: least for least, name in each.names}}
        for source, each in bounds.items()
    }
    (out_dir / "quality.json").write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
    return Ledger.merged(work).metrics()


def _judged(config: QualityConfig, artifact: Path, files: list[Path]) -> tuple[str, ...]:
    known = sorted({name for file in files for name in pc.unique(_column(file, "source")).to_pylist()})
    if missing := sorted(set(config.sources).difference(known)):
        raise UserError(f"{artifact}: quality.sources names {missing[0]}; there are {', '.join(known)}")
    return config.sources or tuple(known)


def _column(file: Path, name: str) -> Any:
    return pq.read_table(file, columns=[name])[name]


def _learn(config: QualityConfig, artifact: Path, sources: tuple[str, ...], work: Path) -> None:
    """Train the model on as many of the examples as are wanted."""
    work.mkdir(parents=True, exist_ok=True)
    chosen = Sample({"in": config.examples, "out": config.examples})
    for kind, paths in (("in", config.positive), ("out", config.negative)):
        what = f"quality.{'positive' if kind == 'in' else 'negative'} files"
        for key, line in lines_of_files(paths, config.classifier.characters, config.seed, what):
            chosen.add(kind, key, line)
    if not config.negative:
        events.begin("examples", count_documents(artifact), "documents")
        steps = [DocumentReader(artifact), Chance(config, sources, work)]
        run_pipeline(steps, len(document_files(artifact)), work, "examples")
        chosen.take(work / "examples")
    rows = chosen.labelled()
    count = {"in": sum(is_in for _, is_in in rows), "out": sum(not is_in for _, is_in in rows)}
    if not all(count.values()):
        lack = "positive" if not count["in"] else "negative"
        raise UserError(f"quality: there are no {lack} examples to learn from; see quality.{lack}")
    events.note(f"quality: learning from {count['in']} positive and {count['out']} negative examples")
    train(rows, config.classifier, work, work / "model.bin")


class Chance(PipelineStep):
    """Writes the documents of its file that are examples of any text, chosen by hash."""

    type = "FILTER"
    name = "chance"

    def __init__(self, config: QualityConfig, sources: tuple[str, ...], folder: Path) -> None:
        super().__init__()
        self.config, self.sources, self.folder = config, sources, folder

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        sample = Sample({"out": self.config.examples})
        for document in data:
            if document.metadata["source"] in self.sources:
                line = line_of(document.text, self.config.classifier.characters)
                sample.add("out", key_of(line, self.config.seed), line)
            yield document
        write_table(pa.Table.from_pylist(list(sample.rows()), EXAMPLES), of_task(self.folder / "examples", rank))


def _bounds(config: QualityConfig, sources: tuple[str, ...], files: list[Path], work: Path) -> dict[str, Bounds]:
    """The scores at which the documents of each source are parted."""
    scores = np.concatenate([_column(of_task(work / "scores", n), "score").to_numpy() for n in range(len(files))])
    names = np.concatenate([_column(file, "source").to_numpy(zero_copy_only=False) for file in files])
    found = {}
    for source in sources:
        mine = np.sort(scores[names == source])
        parts = sorted(((_score_at(mine, share), name) for name, share in config.buckets.items()), reverse=True)
        found[source] = Bounds(_score_at(mine, 1 - config.keep), tuple(parts))
    return found


def _score_at(ascending: np.ndarray, share: float) -> float:
    """The score of the first document that comes after this share of them; those of its score are as good."""
    return float(ascending[min(len(ascending) - 1, round(share * len(ascending)))])


class Sort(PipelineStep):
    """Gives documents their score and the name of their bucket, drops those below the bound, and counts."""

    type = "FILTER"
    name = "sort"

    def __init__(self, bounds: Mapping[str, Bounds], scores: Path, out_dir: Path) -> None:
        super().__init__()
        self.bounds, self.scores, self.out_dir = dict(bounds), scores, out_dir

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        scores = _column(of_task(self.scores, rank), "score").to_pylist()
        ledger = Ledger()
        with RejectWriter(self.out_dir, rank) as rejects:
            for document, score in zip(data, scores, strict=True):
                before = ledger.read(document)
                source = document.metadata["source"]
                bounds = self.bounds.get(source)
                if bounds is None:
                    ledger.keep(document, before)
                    yield document
                    continue
                document.metadata["quality"] = round(score, 4)
                if score < bounds.least:
                    ledger.reject(document, "quality", before)
                    rejects.write(document, "quality")
                    continue
                name = next((name for least, name in bounds.names if score >= least), None)
                if name is None:
                    ledger.keep(document, before)
                else:
                    document.metadata |= {"source": f"{source}.{name}", "from_source": source}
                    ledger.move(document, source)
                yield document
            ledger.save(self.out_dir / ".work", rank)
