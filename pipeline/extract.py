"""Reads raw files (web, wiki, book, jsonl, parquet) into documents: the first stage.

Files are dealt out to tasks by the recipe and their sizes alone: sources by name, files in their order, small ones
together. A document's id is `<source>/<file>/<number of the record>`, so it can be found again in the raw file, and
says nothing of the folder the file lay in. What is not text to learn from (a 404, a redirect, an image) is among the
rejects under the rule that says why, and so is a record that cannot be read (`failure/...`), up to `max_failure_rate`
of a source.

Traded away: one huge file is one task. Dumps and crawls of that size come in many files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from infra import events
from infra.errors import UserError
from infra.storage import ExternalFile, resolve
from pipeline.documents import Document, DocumentWriter, RejectWriter, Tally, merge_tallies, run_pipeline
from pipeline.sections import ExtractConfig, OnDamaged
from pipeline.sources.stream import Damaged, Found

__all__ = ["Piece", "Reader", "deal", "extract"]

TASK_BYTES = 2_000_000
"""Files of a source share a task while they are smaller than this together."""


DROPPED = "dropped/"
"""Before a rule, in the tally of a source."""


@dataclass(frozen=True)
class Piece:
    """A raw file as a task reads it."""

    source: str
    name: str
    """In ids: the file's own, with ~2, ~3, ... where a source has several of the name."""
    file: ExternalFile


def extract(config: ExtractConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Read the files of `config.sources`; `inputs` is empty.

    Raises:
        UserError: a path names nothing, a file is damaged, too much cannot be read, or a source gives no document.
    """
    if not config.sources:
        raise UserError("extract.sources: no source is named; give at least one, with its kind and paths")
    tasks = deal(config)
    work = out_dir / ".work"
    events.begin("extracting", sum(piece.file.size for task in tasks for piece in task), "bytes")
    run_pipeline([Reader(config, tasks, out_dir), DocumentWriter(out_dir)], len(tasks), work, "extract")
    metrics = merge_tallies(work / "tally")
    _check(config, metrics, work / "tally")
    return metrics


def deal(config: ExtractConfig) -> list[list[Piece]]:
    """The files of each task.

    Raises:
        UserError: a path names nothing.
    """
    tasks: list[list[Piece]] = []
    for source, options in sorted(config.sources.items()):
        room = 0
        seen: Counter[str] = Counter()
        for file in resolve(options.paths):
            seen[file.name] += 1
            name = file.name if seen[file.name] == 1 else f"{file.name}~{seen[file.name]}"
            if not tasks or file.size > room:
                tasks.append([])
                room = TASK_BYTES
            room -= file.size
            tasks[-1].append(Piece(source, name, file))
    return tasks


class Reader(PipelineStep):
    """The datatrove step that reads the files of its task, tallies, and writes the rejects."""

    type = "READER"
    name = "sources"

    def __init__(self, config: ExtractConfig, tasks: list[list[Piece]], out_dir: Path) -> None:
        super().__init__()
        self.config, self.tasks, self.out_dir = config, tasks, out_dir

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        tally = Tally()
        with RejectWriter(self.out_dir, rank) as rejects:
            for piece in self.tasks[rank]:
                tally.counts["bytes_in"] += piece.file.size
                for number, (document, rule) in enumerate(self._read(piece), 1):
                    document.id = f"{piece.source}/{piece.name}/{number}"
                    document.metadata = _encodable(document.metadata | {"source": piece.source})
                    text = _encodable(document.text)
                    if text != document.text and rule is None:
                        document.metadata["failure"], rule = "half of a surrogate pair", "failure/encoding"
                    document.text = text
                    tally.counts["documents_in"] += 1
                    by_source = tally.by_source.setdefault(piece.source, Counter())
                    by_source["documents_in"] += 1
                    if rule is None:
                        tally.count(document, "out")
                        yield document
                    else:
                        tally.drop(rule)
                        by_source[DROPPED + rule] += 1
                        rejects.write(document, rule)
            tally.save(self.out_dir / ".work" / "tally", rank)
        events.flush()

    def _read(self, piece: Piece) -> Iterator[Found]:
        options = self.config.sources[piece.source]
        read: Callable[..., Iterator[Found]] = import_module(f"pipeline.sources.{options.kind}").read
        try:
            yield from read(options, piece.file, self.config.max_record_bytes)
        except Damaged as damage:
            if self.config.on_damaged is OnDamaged.STOP:
                raise UserError(
                    f"{piece.file.path}: {damage}; get the file again, or set extract.on_damaged=skip to keep the rest"
                ) from None
            yield Document(text="", id="", metadata={"url": "", "failure": str(damage)}), "damaged_file"


def _encodable(value: Any) -> Any:
    """`value` with what no encoding can write (lone surrogates) spelled out, and what JSON cannot hold as strings."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(str(key)): _encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _check(config: ExtractConfig, metrics: dict[str, Any], tallies: Path) -> None:
    """Raise a UserError where a source gave nothing, or failed too often."""
    dropped: dict[str, Counter[str]] = {source: Counter() for source in config.sources}
    for file in sorted(tallies.glob("*.json")):
        for source, counts in json.loads(file.read_text())["by_source"].items():
            dropped[source].update({key.removeprefix(DROPPED): n for key, n in counts.items() if DROPPED in key})
    for source, options in sorted(config.sources.items()):
        counts = metrics["by_source"].get(source, {"documents_in": 0, "documents_out": 0})
        failures = sum(n for rule, n in dropped[source].items() if rule.startswith("failure/"))
        rules = ", ".join(f"{rule} {n}" for rule, n in dropped[source].most_common(3))
        where = f"extract.sources.{source} ({', '.join(options.paths)})"
        if failures > config.max_failure_rate * counts["documents_in"]:
            raise UserError(
                f"{where}: {failures} of {counts['documents_in']} records cannot be read ({rules}); "
                "mend the files, or raise extract.max_failure_rate"
            )
        if not counts["documents_out"]:
            raise UserError(
                f"{where}: no document among {counts['documents_in']} records ({rules or 'the files are empty'}); "
                f"is {options.kind} the right kind, and do its options fit?"
            )
