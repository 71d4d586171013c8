"""Reads raw files (web, wiki, book, code, jsonl, parquet, subtitles, data sets) into documents: the first stage.

Files are dealt out to tasks by the recipe and their bytes alone: sources by name, files in their order, small ones
together, large ones in parts of `split_bytes`. A killed stage goes on with the tasks that are left. A document's id is
`<source>/<file>/<number of the record>`, or `<source>/<file>/<part>.<number>` where there are parts, so it can be found
again in the raw file, and says nothing of the folder the file lay in.

What is not text to learn from (a 404, a redirect, an image) is among the rejects under the rule that says why, and so
is a record that cannot be read (`failure/...`), up to `max_failure_rate` of a source's records, and a file that breaks
off (`damaged_file`), up to that share of its files.

What somebody asked to have removed (`config.removed`), and its copies, is counted under the rule `removed`, whatever
else would be said of it; nothing of its text is kept, not among the rejects either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from infra import events
from infra.errors import UserError
from infra.kept_parts import kept_parts
from infra.storage import ExternalFile, digest_of, resolve
from pipeline.removal.asks import REMOVED, read_removals
from pipeline.removal.parts import heeding
from pipeline.sections import ExtractConfig, OnDamaged
from pipeline.sources.charset import MOST_NULS
from pipeline.sources.passed_over import without_beside
from pipeline.sources.stream import Damaged, Found, Limits, Part, most_decoded
from pipeline.tasks.documents import (
    Document,
    DocumentWriter,
    RejectWriter,
    read_documents,
    run_pipeline,
)
from pipeline.tasks.guard import spent
from pipeline.tasks.ledger import Account, DocumentMetrics, Ledger, take_record
from pipeline.tasks.losses import Losses
from pipeline.tasks.profiles import PROFILE
from pipeline.tasks.task_parts import OF_DOCUMENTS, TaskParts
from pipeline.tasks.verbatim import note_verbatim

__all__ = ["Piece", "Reader", "deal", "extract", "peek"]

PEEKED_FILES = 6
"""Files of which a look sees the beginning."""
PEEKED_RECORDS = 1_000
"""Records of each, of which most may give no text: half of a crawl's are requests."""
TASK_BYTES = 2_000_000
"""Files of a source share a task while they are smaller than this together."""
RECORDS = 1_000_000
"""Records that any file may have beyond one for each of its bytes."""
SECONDS, SECONDS_PER_MEGABYTE = 300.0, 60.0
"""Processor time that making text of a file may take in all, and further for its size: ten times what text takes."""
NO_TEXT = (
    *("status/", "type", "not_http", "redirect", "namespace", "language", "skipped", "failure/", "damaged_file"),
    REMOVED,
)
"""How rules begin that reject what nobody asked for, or for which `max_failure_rate` is the limit."""
DEEPEST = 32
"""Levels of lists and objects kept of a record's metadata."""


@dataclass(frozen=True)
class Piece:
    """A raw file as a task reads it."""

    source: str
    name: str
    """In ids: the file's own, with ~2, ~3 and so on where a source has several of it, and the part if there are any."""
    part: Part


def extract(config: ExtractConfig, inputs: Mapping[str, Path], out_dir: Path) -> DocumentMetrics:
    """Read the files of `config.sources`; `inputs` is empty.

    Raises:
        UserError: a path names nothing, a file is damaged, too much cannot be read, or a source gives no document.
    """
    if not config.sources:
        raise UserError("extract.sources: no source is named; give at least one, with its kind and paths")
    tasks = deal(config)
    work = out_dir / ".work"
    losses = Losses(
        "extract",
        config,
        "see whether extract.sources.{source} has the right kind and options",
        only_rejects=True,
        intended=NO_TEXT,
    )
    events.begin("extracting", sum(piece.part.size for task in tasks for piece in task), "bytes")
    steps = [Reader(config, tasks, out_dir, losses), DocumentWriter(out_dir)]
    run_pipeline(steps, len(tasks), work, "extract", parts=_parts(config, tasks, out_dir))
    ledger = Ledger.merged(work)
    metrics = ledger.metrics()
    _check(config, _files(tasks), metrics, out_dir)
    losses.judge(ledger)
    return metrics


def _parts(config: ExtractConfig, tasks: list[list[Piece]], out_dir: Path) -> TaskParts | None:
    """What the documents of a task follow from: the bytes and names of its files, and how their sources are read."""
    if (kept := kept_parts()) is None:
        return None
    apart = {"sources", "max_loss", "max_loss_by_source", "removed", "removed_overlap"}
    shared = config.model_dump(mode="json", exclude=apart)
    options = {name: source.model_dump(mode="json", exclude={"paths"}) for name, source in config.sources.items()}
    files = {piece.part.file.path: piece.part.file for task in tasks for piece in task}
    digests = {path: kept.external(path) or digest_of(file) for path, file in files.items()}

    def of(piece: Piece) -> Any:
        part = piece.part
        place = [part.begin, part.end, str(part.walk), part.hop]
        return [piece.source, options[piece.source], piece.name, part.file.name, digests[part.file.path], place]

    parts = TaskParts(out_dir, OF_DOCUMENTS, [[shared, [of(piece) for piece in task]] for task in tasks])
    if not (removals := read_removals(config)):
        return parts
    return heeding(parts, removals, "extract", out_dir / ".work" / "heeding")


def deal(config: ExtractConfig) -> list[list[Piece]]:
    """The files of each task.

    Raises:
        UserError: a path names nothing.
    """
    tasks: list[list[Piece]] = []
    for source, options in sorted(config.sources.items()):
        room = 0
        seen: Counter[str] = Counter()
        module = _module(options.kind)
        for file in _files_of(source, options, config.max_download_bytes):
            seen[file.name] += 1
            name = file.name if seen[file.name] == 1 else f"{file.name}~{seen[file.name]}"
            if file.size > config.split_bytes:
                parts = module.parts(options, file, config.split_bytes)
                names = [f"{name}/{number}" if len(parts) > 1 else name for number in range(1, len(parts) + 1)]
                tasks += [[Piece(source, *named)] for named in zip(names, parts, strict=True)]
                room = -1
                continue
            if not tasks or file.size > room:
                tasks.append([])
                room = TASK_BYTES
            room -= file.size
            tasks[-1].append(Piece(source, name, Part(file)))
    return tasks


def _files_of(source: str, options: Any, most: int) -> list[ExternalFile]:
    """The files of a source that are data."""
    files = resolve(options.paths, most)
    module = _module(options.kind)
    if hasattr(module, "choose"):
        return list(module.choose(options, files))
    return without_beside(f"extract.sources.{source}", options.paths, files, code=options.kind == "code")


def _module(kind: str) -> Any:
    """The module that reads a kind of source: it has `parts` and `read`, and `choose` where not every file is data."""
    from pipeline.sources import book, code, dataset, jsonl, parquet, subtitles, web, wiki  # heavy, so not at the top

    return {
        "book": book,
        "code": code,
        "dataset": dataset,
        "jsonl": jsonl,
        "parquet": parquet,
        "subtitles": subtitles,
        "web": web,
        "wiki": wiki,
    }[kind]


def peek(config: ExtractConfig, most: int) -> tuple[list[Document], Counter[str]]:
    """The first documents of the sources, `most` at most, from several files where there are several; for a look.

    Returns:
        The documents, and why records before them gave none: what failed, or the rule that rejected them, with counts.

    Raises:
        UserError: a path names nothing, or a file is damaged.
    """
    tasks = deal(config)
    reader = Reader(config, tasks, Path(), Losses("extract", config, ""))
    pieces = [piece for task in tasks for piece in task]
    chosen = pieces[:: max(1, len(pieces) // PEEKED_FILES)][:PEEKED_FILES]
    share = -(-most // max(1, len(chosen)))
    rejected: Counter[str] = Counter()

    def kept(piece: Piece) -> Iterator[Document]:
        for document, rule in islice(reader.read(piece), PEEKED_RECORDS):
            if rule is None:
                yield document
            else:
                rejected[document.metadata.get("failure") or rule] += 1

    documents = [document for piece in chosen for document in islice(kept(piece), share)]
    return documents[:most], rejected


class Reader(PipelineStep):
    """The datatrove step that reads the files of its task, counts, and writes the rejects."""

    type = "READER"
    name = "sources"

    def __init__(self, config: ExtractConfig, tasks: list[list[Piece]], out_dir: Path, losses: Losses) -> None:
        super().__init__()
        self.config, self.tasks, self.out_dir, self.losses = config, tasks, out_dir, losses
        self.files = _files(tasks)

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        ledger = self.losses.ledger(self.out_dir / ".work")
        removals = read_removals(self.config)
        with RejectWriter(self.out_dir, rank) as rejects:
            for piece in self.tasks[rank]:
                ledger.bytes_in += piece.part.size
                records = ledger.records(piece.source)
                separator = "/" if piece.part.begin == 0 and piece.part.end is None else "."
                for number, (document, rule) in enumerate(self.read(piece), 1):
                    document.id = f"{piece.source}/{piece.name}{separator}{number}"
                    characters = len(document.text)
                    record = take_record(document.metadata, characters)
                    document.metadata = _encodable(document.metadata) | self._of_source(piece.source)
                    rule = _mend(document, rule)
                    if len(document.text) != characters:
                        note_verbatim(document.metadata, ())  # what was mended has moved it
                    if removals and (match := removals.match(document)):
                        document, rule = removals.redacted(document, match), REMOVED
                    records.count(document, rule, record, characters)
                    if rule is None:
                        yield document
                    else:
                        rejects.write(document, rule)
                records.close()
            ledger.save(self.out_dir / ".work", rank)
        events.flush()

    def _of_source(self, source: str) -> dict[str, str]:
        return {"source": source, PROFILE: self.config.sources[source].profile.value}

    def read(self, piece: Piece) -> Iterator[Found]:
        """The documents of a file or a part of one, each with the rule that rejects it or None."""
        options = self.config.sources[piece.source]
        limits = Limits(self.config.max_record_bytes, self.config.max_record_seconds)
        try:
            yield from _bounded(_module(options.kind).read(options, piece.part, limits), piece.part)
        except Damaged as damage:
            if self.config.on_damaged is OnDamaged.STOP and self.config.max_failure_rate * self.files[piece.source] < 1:
                raise UserError(
                    f"{piece.part.file.path}: {damage}; "
                    f"{damage.remedy}, or set extract.on_damaged=skip to keep the rest"
                ) from None
            yield Document(text="", id="", metadata={"url": "", "failure": str(damage)}), "damaged_file"


def _bounded(found: Iterable[Found], part: Part) -> Iterator[Found]:
    """What is found in a file, as far as one of its size can hold it.

    Raises:
        Damaged: there is more, as where a file holds a text once and says that it has it in a million rows.
    """
    records, room = RECORDS + part.file.size, most_decoded(part.file.size)
    until = spent() + SECONDS + SECONDS_PER_MEGABYTE * part.file.size / 1e6
    for number, (document, rule) in enumerate(found, 1):
        room -= len(document.text) + sum(len(each) for each in document.metadata.values() if isinstance(each, str))
        if number > records or room < 0:
            raise Damaged(f"record {number}", "more records, or more text, than a file of this size can hold")
        if spent() > until:
            raise Damaged(f"record {number}", "records that take longer than all of a file of this size should")
        yield document, rule


def _files(tasks: list[list[Piece]]) -> Counter[str]:
    """How many files each source has."""
    return Counter(source for source, _ in {(piece.source, piece.part.file.path) for task in tasks for piece in task})


def _mend(document: Document, rule: str | None) -> str | None:
    """Take out of the text what no later stage can hold; the rule that rejects it, which may be a new one."""
    text = _encodable(document.text)
    problem = "half of a surrogate pair" if text != document.text else ""
    if "\0" in text:
        if text.count("\0") > MOST_NULS * len(text):
            problem = "NUL bytes"
        text = text.replace("\0", "")
    document.text = text
    if problem and rule is None:
        document.metadata["failure"], rule = problem, "failure/encoding"
    return rule


def _encodable(value: Any, depth: int = DEEPEST) -> Any:
    """`value` with what no encoding can write (lone surrogates) spelled out, and what JSON cannot hold as strings."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, (dict, list, tuple)) and not depth:
        return "nested too deep"
    if isinstance(value, dict):
        return {_encodable(str(key)): _encodable(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item, depth - 1) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _check(config: ExtractConfig, files: Counter[str], metrics: DocumentMetrics, out_dir: Path) -> None:
    """Raise a UserError where a source gave nothing, or failed too often."""
    for source, options in sorted(config.sources.items()):
        account = metrics.by_source.get(source, Account())
        dropped = Counter({rule: amount.documents for rule, amount in account.rejected.items()})
        failures = sum(n for rule, n in dropped.items() if rule.startswith("failure/"))
        rules = ", ".join(f"{rule} {n}" for rule, n in dropped.most_common(3))
        where = f"extract.sources.{source} ({', '.join(options.paths)})"
        damaged = dropped["damaged_file"]
        if config.on_damaged is OnDamaged.STOP and damaged > config.max_failure_rate * files[source]:
            raise UserError(
                f"{where}: {damaged} of {files[source]} files are damaged, "
                f"{_example(out_dir, source, 'damaged_file')}; "
                "get them again, set extract.on_damaged=skip to keep the rest, or raise extract.max_failure_rate"
            )
        if failures > config.max_failure_rate * account.documents_in:
            raise UserError(
                f"{where}: {failures} of {account.documents_in} records cannot be read ({rules}), "
                f"{_example(out_dir, source, 'failure/')}; mend the files, or raise extract.max_failure_rate"
            )
        if not account.documents_out and not dropped[REMOVED]:
            unread = "damaged_file" if damaged else "failure/"
            example = f", {_example(out_dir, source, unread)}" if damaged or failures else ""
            raise UserError(
                f"{where}: no document among {account.documents_in} records ({rules or 'the files are empty'})"
                f"{example}; is {options.kind} the right kind, and do its options fit?"
            )


def _example(out_dir: Path, source: str, rule: str) -> str:
    """The first reject of a source by a rule that begins so."""
    for document in read_documents(out_dir, "rejects"):
        if document.metadata["source"] == source and document.metadata["rule"].startswith(rule):
            return f"as {document.id} ({document.metadata.get('failure') or document.metadata['rule']})"
    return "see rejects/"
