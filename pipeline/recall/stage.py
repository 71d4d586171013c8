"""Recalls the pages of a field from the corpus: DeepSeekMath's loop (arXiv 2402.03300, section 2.1), as a stage.

A classifier learns the seeds of a field against pages chosen by chance; it ranks all candidate pages, and the first of
the ranking are recalled. Hosts and paths of which many pages were recalled give their other pages as further
examples, and the next round begins; it ends when a round finds what the one before had found. Several fields are
searched one after another, each for itself.

The artifact holds all documents of its input, in its files; those recalled carry the field's name as their source,
and `from_source`, `recall_score` in their metadata. `recall.json` tells each round, the hosts and the paths, for a
person to correct by `urls` and `not_urls`.

Passes over the documents are datatrove tasks, one per file: per round one that gathers examples and one that judges. A
killed stage resumes with the round, and the tasks, that were left. Held in memory here: a score and a size for each
candidate (8 bytes), and the counts of hosts and paths.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep

from infra import events
from infra.durable import write_whole
from infra.errors import UserError
from pipeline.recall.classifier import Judge, line_of, train
from pipeline.recall.discovery import Pages, below
from pipeline.recall.examples import EXAMPLES, Sample, key_of, lines_of_files, of_task, write_table
from pipeline.recall.rounds import ExampleCounts, RecallMetrics, Round
from pipeline.recall.section import Domain, RecallConfig
from pipeline.tasks.documents import (
    Document,
    DocumentReader,
    DocumentWriter,
    RejectWriter,
    count_documents,
    document_files,
    run_pipeline,
)
from pipeline.tasks.ledger import Ledger

__all__ = ["recall"]

BATCH = 256
"""Pages judged at once."""
FEW_BYTES = 8_000_000
"""Files of documents up to which one process is done sooner than others start."""
Before = tuple[Path | None, float]
"""The folder of the round before, and its threshold."""
SCORES = pa.schema([("url", pa.string()), ("bytes", pa.uint32()), ("score", pa.float32())])
SEEDS = "recall's seeds"


def recall(config: RecallConfig, inputs: Mapping[str, Path], out_dir: Path) -> RecallMetrics:
    """Find the pages of `config.domains` among the documents of `inputs["dedup"]`.

    Raises:
        UserError: a seed file cannot be read, a field has no examples, or nothing to search is there.
    """
    artifact, work = inputs["dedup"], out_dir / ".work"
    search = _Search(config, artifact, work)
    report = {name: search.rounds(name, domain) for name, domain in sorted(config.domains.items())}
    thresholds = {name: found[-1].threshold for name, found in report.items()}
    last = {name: search.folder(name, len(found)) / "scores" for name, found in report.items()}
    events.begin("sorting", count_documents(artifact), "documents")
    steps = [DocumentReader(artifact), Relabel(config, thresholds, last, out_dir), DocumentWriter(out_dir)]
    search.run(steps, work, "sorting")
    told = {name: [each.model_dump(mode="json", by_alias=True) for each in found] for name, found in report.items()}
    (out_dir / "recall.json").write_text(json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    metrics = Ledger.merged(work).metrics()
    if not metrics.documents_out:
        raise UserError(
            f"{artifact}: nothing was recalled and keep_others is false; add seeds, or lower recall.min_score"
        )
    return RecallMetrics(
        **dict(metrics),
        recalled={name: found[-1].pages for name, found in report.items()},
        rounds={name: len(found) for name, found in report.items()},
    )


class _Search:
    """The rounds of one corpus."""

    def __init__(self, config: RecallConfig, artifact: Path, work: Path) -> None:
        self.config, self.artifact, self.work = config, artifact, work
        files = document_files(artifact)
        self.files, self.total = len(files), count_documents(artifact)
        self.small = sum(file.stat().st_size for file in files) <= FEW_BYTES

    def run(self, steps: list[Any], work: Path, name: str) -> None:
        """A pass over all documents."""
        run_pipeline(steps, self.files, work, name, processes=1 if self.small else None)

    def folder(self, name: str, number: int) -> Path:
        """Of a round, counted from 1."""
        return self.work / name / f"round-{number}"

    def rounds(self, name: str, domain: Domain) -> list[Round]:
        """Search for one field until nothing new turns up; what each round did."""
        done: list[Round] = []
        for number in range(1, self.config.max_rounds + 1):
            folder = self.folder(name, number)
            if not (folder / "round.json").exists():
                before = done[-1] if done else None
                if not (folder / "model.bin").exists():
                    self._learn(name, domain, folder, before)
                events.begin(f"{name}: judging, round {number}", self.total, "documents")
                scores = Scores(self.config.candidates, self.config.classifier.characters, folder)
                self.run([DocumentReader(self.artifact), scores], folder, "judging")
                told = self._look(domain, folder, before)
                write_whole(folder / "round.json", told.model_dump_json(by_alias=True).encode())
                (folder / "model.bin").unlink()
            last = Round.model_validate_json((folder / "round.json").read_bytes())
            done.append(last)
            events.note(
                f"{name}, round {number}: {last.pages} of {last.candidates} pages, "
                f"{last.known:.1%} of them known before"
            )
            if last.known >= self.config.saturation or not last.pages:
                break
        return done

    def _learn(self, name: str, domain: Domain, folder: Path, before: Round | None) -> None:
        """Gather the examples of a round and train its model."""
        events.begin(f"{name}: examples", self.total, "documents")
        urls = [*domain.urls, *(before.paths if before else ())]
        earlier: Before = (folder.parent / before.folder, before.threshold) if before else (None, 0.0)
        gather = Examples(self.config, domain, urls, self.total, folder, earlier)
        self.run([DocumentReader(self.artifact), gather], folder, "gathering")
        chosen = _sample(self.config, self.total)
        for key, line in lines_of_files(domain.seeds, self.config.classifier.characters, self.config.seed, SEEDS):
            chosen.add("in", key, line)
        chosen.take(folder / "examples")
        rows = chosen.labelled()
        count = {"in": sum(is_in for _, is_in in rows), "out": sum(not is_in for _, is_in in rows)}
        if not all(count.values()):
            lack = "of the field" if not count["in"] else "of anything else"
            raise UserError(
                f"{self.artifact}: recall.domains.{name} has no examples {lack} to learn from; "
                f"see its seeds, and recall.candidates ({', '.join(self.config.candidates)})"
            )
        events.note(f"{name}: learning from {count['in']} pages of the field and {count['out']} others")
        train(rows, self.config.classifier, folder, folder / "model.bin")
        (folder / "counts.json").write_text(json.dumps(count))
        shutil.rmtree(folder / "examples")

    def _look(self, domain: Domain, folder: Path, before: Round | None) -> Round:
        """What the scores of a round say: who is recalled, how much is new, and where to look next."""
        files = sorted((folder / "scores").glob("*.parquet"))
        scores, sizes = (
            np.concatenate([pq.read_table(file, columns=[column])[column].to_numpy() for file in files])
            for column in ("score", "bytes")
        )
        threshold = _threshold(scores, sizes, self.config)
        recalled = scores >= threshold
        known = np.zeros(len(scores), dtype=bool)
        if before:
            earlier = [folder.parent / before.folder / "scores" / file.name for file in files]
            known = np.concatenate([pq.read_table(file)["score"].to_numpy() for file in earlier]) >= before.threshold
        pages = Pages()
        start = 0
        for file in files:
            urls = pq.read_table(file, columns=["url"])["url"].to_pylist()
            for url, hit in zip(urls, recalled[start : start + len(urls)].tolist(), strict=True):
                pages.count(url, hit)
            start += len(urls)
        config = self.config
        hosts = pages.hosts(config.host_share, config.min_pages)
        paths = [path for path in pages.paths(hosts, config.path_share, config.min_pages) if not _refused(path, domain)]
        found = int(recalled.sum())
        return Round(
            folder=folder.name,
            examples=ExampleCounts.model_validate_json((folder / "counts.json").read_bytes()),
            candidates=int((scores >= 0).sum()),
            pages=found,
            bytes=int(sizes[recalled].sum()),
            threshold=threshold,
            known=round(float((known & recalled).sum()) / found, 6) if found else 0.0,
            hosts={host: (pages.recalled[host], pages.all[host]) for host in hosts},
            paths=paths,
        )


def _refused(path: str, domain: Domain) -> bool:
    return below(f"://{path}/", domain.not_urls)


def _threshold(scores: np.ndarray, sizes: np.ndarray, config: RecallConfig) -> float:
    """The least score that is recalled: `min_score`, or that of the last page that fits `max_bytes`."""
    chosen = np.flatnonzero(scores >= config.min_score)
    if config.max_bytes is None or not len(chosen):
        return config.min_score
    order = chosen[np.argsort(-scores[chosen], kind="stable")]
    fit = int(np.searchsorted(np.cumsum(sizes[order].astype(np.int64)), config.max_bytes, side="right"))
    if fit == len(order):
        return config.min_score
    # Pages of one score stand or fall together: the bytes must not depend on their order.
    return float(np.nextafter(scores[order[fit]], np.float32(2), dtype=np.float32))


def _sample(config: RecallConfig, total: int) -> Sample:
    negatives = min(config.negatives, max(1, int(config.negative_share * total)))
    return Sample({"in": config.positives, "out": negatives})


class Examples(PipelineStep):
    """Writes the examples that a file has: pages known to be of the field, and others chosen by chance.

    By chance is by hash. Of the others a file writes those below a bound under which the corpus has about twice as many
    as are wanted, and nothing is sought in what an earlier round recalled (DeepSeekMath chooses by chance alone).
    """

    type = "FILTER"
    name = "examples"

    def __init__(
        self, config: RecallConfig, domain: Domain, urls: list[str], total: int, folder: Path, before: Before
    ) -> None:
        super().__init__()
        self.config, self.domain, self.urls, self.total, self.folder = config, domain, urls, total, folder
        self.before, self.threshold = before

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        sample = _sample(self.config, self.total)
        bound = min(1.0, 2 * sample.limits["out"] / self.total)
        scores = pq.read_table(of_task(self.before / "scores", rank))["score"].to_pylist() if self.before else None
        for number, document in enumerate(data):
            kind = self._kind(document, scores[number] if scores else 0.0)
            if kind:
                line = line_of(document.text, self.config.classifier.characters)
                key = key_of(line, self.config.seed)
                if kind == "in" or int.from_bytes(key[:8], "big") <= bound * (1 << 64):
                    sample.add(kind, key, line)
            yield document
        write_table(pa.Table.from_pylist(list(sample.rows()), EXAMPLES), of_task(self.folder / "examples", rank))

    def _kind(self, document: Document, score: float) -> str | None:
        source, url = document.metadata["source"], document.metadata["url"]
        if source in self.domain.seed_sources:
            return "in"
        if source not in self.config.candidates:
            return None
        if below(url, self.domain.not_urls):
            return "out"
        if below(url, self.urls):
            return "in"
        return None if self.before and score >= self.threshold else "out"


class Scores(PipelineStep):
    """Writes the score, size and address of each document; -1 for those that are not searched."""

    type = "FILTER"
    name = "scores"

    def __init__(self, candidates: Collection[str], characters: int, folder: Path) -> None:
        super().__init__()
        self.candidates, self.characters, self.folder = candidates, characters, folder

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        judge = Judge(self.folder / "model.bin")
        columns: dict[str, list[Any]] = {name: [] for name in SCORES.names}
        waiting: list[str] = []
        places: list[int] = []

        def judge_waiting() -> None:
            for place, score in zip(places, judge.scores(waiting).tolist() if waiting else (), strict=True):
                columns["score"][place] = score
            waiting.clear()
            places.clear()

        for document in data:
            is_candidate = document.metadata["source"] in self.candidates
            if is_candidate:
                places.append(len(columns["score"]))
                waiting.append(line_of(document.text, self.characters))
            columns["score"].append(-1.0)
            columns["url"].append(document.metadata["url"] if is_candidate else "")
            columns["bytes"].append(len(document.text.encode()))
            if len(waiting) == BATCH:
                judge_waiting()
            yield document
        judge_waiting()
        write_table(pa.table(columns, schema=SCORES), of_task(self.folder / "scores", rank))


class Relabel(PipelineStep):
    """Gives recalled documents the name of their field, drops the others if they are not kept, and counts."""

    type = "FILTER"
    name = "relabel"

    def __init__(
        self, config: RecallConfig, thresholds: Mapping[str, float], scores: Mapping[str, Path], out_dir: Path
    ) -> None:
        super().__init__()
        self.config, self.thresholds, self.scores, self.out_dir = config, dict(thresholds), dict(scores), out_dir

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        scores = {
            name: pq.read_table(of_task(folder, rank))["score"].to_pylist() for name, folder in self.scores.items()
        }
        ledger = Ledger()
        with RejectWriter(self.out_dir, rank) as rejects:
            for number, document in enumerate(data):
                before = ledger.read(document)
                found = {
                    name: column[number] for name, column in scores.items() if column[number] >= self.thresholds[name]
                }
                source = document.metadata["source"]
                if found:
                    name = max(found, key=lambda each: (found[each], each))
                    document.metadata |= {"source": name, "from_source": source, "recall_score": round(found[name], 4)}
                elif source in self.config.candidates and not self.config.keep_others:
                    ledger.reject(document, "not_recalled", before)
                    rejects.write(document, "not_recalled")
                    continue
                if document.metadata["source"] != source:
                    ledger.move(document, source)
                else:
                    ledger.keep(document, before)
                yield document
            ledger.save(self.out_dir / ".work", rank)
