"""Removes documents that hold a text of an evaluation set.

DeepSeekMath (arXiv 2402.03300, section 2.1): a document goes when any 10 consecutive words of it are 10 consecutive
words of an evaluation text; evaluation texts of 3 to 9 words must occur whole; shorter ones are not looked for. Words
are compared in lower case and without punctuation, a character each where a script has no spaces between them. The
match is exact: no hash can collide.

The evaluation texts are the validation and test questions of the `reasoning` artifact and any further sets. A
reject's metadata tells every offending span: the words, where in the document they are, and which set they came from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep

from infra import events
from infra.errors import UserError
from infra.storage import ExternalFile, open_seekable, resolve
from pipeline.dedup.removed import REMOVED
from pipeline.reasoning.problems import question_key
from pipeline.sections import DecontaminateConfig
from pipeline.sources.stream import Damaged, Part, open_stream
from pipeline.tasks.documents import (
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
from pipeline.text.words import UNSPACED

__all__ = ["Index", "Match", "decontaminate", "evaluation_texts"]

WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
REMEDY = "leave {source} out, or set reasoning.exclude and decontaminate.evaluation_sets to what evaluates"
MOST_SPANS = 20
"""Offending spans recorded of a document."""
FEW_BYTES = 32_000_000
"""Text up to which one process is done sooner than others start."""


def decontaminate(config: DecontaminateConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Remove from the documents of `inputs["dedup"]` those that hold evaluation texts of `inputs["reasoning"]`.

    Raises:
        UserError: an evaluation set cannot be read, or no document is left.
    """
    artifact = inputs["dedup"]
    texts = list(evaluation_texts(config, inputs["reasoning"]))
    _note_texts(texts, out_dir)
    files = document_files(artifact)
    events.begin("decontaminating", count_documents(artifact), "documents")
    losses = Losses("decontaminate", config, REMEDY, source_characters(artifact))
    steps = [DocumentReader(artifact), DropContaminated(config, texts, out_dir, losses), DocumentWriter(out_dir)]
    small = sum(file.stat().st_size for file in files) <= FEW_BYTES
    run_pipeline(steps, len(files), out_dir / ".work", "decontaminate", processes=1 if small else None)
    metrics = losses.settled(out_dir / ".work").metrics()
    if not metrics.documents_out:
        raise UserError(f"{artifact}: no document is free of evaluation texts; check decontaminate.evaluation_sets")
    return metrics.written(evaluation_texts=len(texts))


def _note_texts(texts: Iterable[tuple[str, str]], out_dir: Path) -> None:
    """Write down what was looked for, so that an evaluation can say whether it was."""
    keys: dict[str, list[str]] = {}
    for name, text in texts:
        keys.setdefault(name, []).append(hashlib.blake2b(question_key(text).encode(), digest_size=8).hexdigest())
    content = {name: sorted(set(found)) for name, found in sorted(keys.items())}
    (out_dir / REMOVED).write_text(json.dumps(content) + "\n", encoding="utf-8")


def evaluation_texts(config: DecontaminateConfig, reasoning: Path) -> Iterator[tuple[str, str]]:
    """Set name and text of everything that training must not see."""
    files = [
        (f"reasoning/{split}", file)
        for split in ("validation", "test")
        for file in resolve([str(reasoning / f"{split}.jsonl")])
    ]
    files += [(PurePosixPath(file.name).name.partition(".")[0], file) for file in resolve(config.evaluation_sets)]
    for name, file in files:
        for number, row in enumerate(_rows(file), 1):
            text = (
                next((row[field] for field in config.fields if field in row), None) if isinstance(row, dict) else None
            )
            if not isinstance(text, str):
                wanted = ", ".join(config.fields)
                raise UserError(f"{file.path}: record {number}: not an object with the text in one of {wanted}")
            yield name, text


def _rows(file: ExternalFile) -> Iterator[Any]:
    """The rows of a Parquet file or of JSON lines, plain or compressed; None for a line that is no JSON."""
    try:
        if file.name.endswith(".parquet"):
            with open_seekable(file) as raw:
                yield from pq.read_table(raw).to_pylist()
            return
        with open_stream(Part(file)) as stream:
            for line in stream.read().splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    yield None
    except (Damaged, pa.ArrowException) as error:
        raise UserError(f"{file.path}: {error}; get the evaluation set again") from None


class Match(NamedTuple):
    """Where a document holds an evaluation text."""

    set: str
    span: tuple[int, int]
    """Characters of the document."""


class Index:
    """The n-grams of the evaluation texts, over a vocabulary of their own words.

    A document's words outside the vocabulary end every run, so that most documents are seen through at the cost of one
    dictionary look-up per word.
    """

    def __init__(self, texts: Iterable[tuple[str, str]], n_gram: int = 10, min_n_gram: int = 3) -> None:
        self.words: dict[str, int] = {}
        self.grams: dict[int, dict[tuple[int, ...], str]] = {}
        for name, text in texts:
            ids = tuple(self.words.setdefault(word, len(self.words)) for word in map(str.lower, WORD.findall(text)))
            length = min(len(ids), n_gram)
            if length < min_n_gram:
                continue
            for start in range(len(ids) - length + 1):
                self.grams.setdefault(length, {}).setdefault(ids[start : start + length], name)

    def find(self, text: str) -> Match | None:
        """The first evaluation text in `text`, the longest n-grams first."""
        for length, begin, name in self._hits(text):
            spans = [match.span() for match in WORD.finditer(text)][begin : begin + length]
            return Match(name, (spans[0][0], spans[-1][1]))
        return None

    def find_all(self, text: str) -> list[Match]:
        """Every stretch of `text` that is of an evaluation text, in order; n-grams that follow each other are one."""
        hits = sorted((begin, begin + length, name) for length, begin, name in self._hits(text))
        if not hits:
            return []
        stretches: list[tuple[int, int, str]] = []
        for begin, end, name in hits:
            if stretches and stretches[-1][2] == name and begin <= stretches[-1][1]:
                stretches[-1] = (stretches[-1][0], max(end, stretches[-1][1]), name)
            else:
                stretches.append((begin, end, name))
        spans = [match.span() for match in WORD.finditer(text)]
        return [Match(name, (spans[begin][0], spans[end - 1][1])) for begin, end, name in stretches]

    def _hits(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Length, first word and set of each n-gram in `text`, the longest first."""
        ids = [self.words.get(word.lower(), -1) for word in WORD.findall(text)]
        for length, grams in sorted(self.grams.items(), reverse=True):
            run = 0
            for end, word in enumerate(ids, 1):
                run = run + 1 if word >= 0 else 0
                if run >= length and (name := grams.get(tuple(ids[end - length : end]))):
                    yield length, end - length, name


class DropContaminated(PipelineStep):
    """Drops documents in which the index finds something, and counts."""

    type = "FILTER"
    name = "decontaminate"

    def __init__(
        self, config: DecontaminateConfig, texts: list[tuple[str, str]], out_dir: Path, losses: Losses
    ) -> None:
        super().__init__()
        self.config, self.texts, self.out_dir, self.losses = config, texts, out_dir, losses

    @cached_property
    def index(self) -> Index:
        return Index(self.texts, self.config.n_gram, self.config.min_n_gram)

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        ledger = self.losses.ledger(self.out_dir / ".work")
        with RejectWriter(self.out_dir, rank) as rejects:
            for document in data:
                before = ledger.read(document)
                match = self.index.find(document.text)
                if match is None:
                    ledger.keep(document, before)
                    yield document
                else:
                    span = document.text[slice(*match.span)]
                    found = self.index.find_all(document.text)
                    for name in sorted({each.set for each in found}):
                        ledger.note(f"documents_with/{name}")
                    document.metadata |= {"evaluation_set": match.set, "span": list(match.span), "span_text": span}
                    document.metadata["spans"] = [
                        {"set": each.set, "span": list(each.span), "text": document.text[slice(*each.span)]}
                        for each in found[:MOST_SPANS]
                    ]
                    rule = f"{len(WORD.findall(span))}-gram"
                    ledger.reject(document, rule, before)
                    rejects.write(document, rule)
            ledger.save(self.out_dir / ".work", rank)
