"""Removes documents that hold a text of an evaluation set.

DeepSeekMath (arXiv 2402.03300, section 2.1): a document goes when any 10 consecutive words of it are 10 consecutive
words of an evaluation text; evaluation texts of 3 to 9 words must occur whole; shorter ones are not looked for. Words
are compared without case, in the normal form NFKC, without punctuation and invisible characters, a character each
where a script has no spaces between them. The match is exact: no hash can collide.

The evaluation texts are the validation and test questions of the `reasoning` artifact and any further sets. A
reject's metadata tells every offending span: the words, where in the document they are, and which set they came from.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import regex
from datatrove.pipeline.base import PipelineStep

from infra import events
from infra.errors import UserError
from infra.hashing import digest
from infra.storage import resolve
from pipeline.dedup.evaluation_sets import read_texts, set_files
from pipeline.dedup.removed import REMOVED, DecontaminateMetrics
from pipeline.reasoning.problems import question_key
from pipeline.sections import DecontaminateConfig
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
from pipeline.tasks.task_parts import OF_DOCUMENTS, parts_of_files
from pipeline.text.alphabet import CONTINUING, UNSPACED, UNSPACED_LETTER
from pipeline.text.folding import widened

__all__ = ["Index", "Match", "decontaminate", "evaluation_texts"]

_ASCII_WORD = re.compile(r"\w+", re.ASCII)
_WORD = regex.compile(rf"{UNSPACED_LETTER}{CONTINUING}*+|[\p{{L}}\p{{N}}\p{{M}}_--[{UNSPACED}]]++", regex.VERSION1)
_AROUND_WORDS = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")
_POINTS = re.compile(r"[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u0652\u0670]+")
_CHARACTER = regex.compile(r"\X")
"""What a reader takes for a character: a letter with all the marks on it (Unicode annex 29)."""
REMEDY = "leave {source} out, or set reasoning.exclude and decontaminate.evaluation_sets to what evaluates"
MOST_SPANS = 20
"""Offending spans recorded of a document."""
FEW_BYTES = 32_000_000
"""Text up to which one process is done sooner than others start."""


def decontaminate(config: DecontaminateConfig, inputs: Mapping[str, Path], out_dir: Path) -> DecontaminateMetrics:
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
    settings = config.model_dump(mode="json", exclude={"max_loss", "max_loss_by_source", "evaluation_sets", "fields"})
    parts = parts_of_files(out_dir, artifact, files, OF_DOCUMENTS, settings, digest(texts))
    run_pipeline(steps, len(files), out_dir / ".work", "decontaminate", processes=1 if small else None, parts=parts)
    metrics = losses.settled(out_dir / ".work").metrics()
    if not metrics.documents_out:
        raise UserError(f"{artifact}: no document is free of evaluation texts; check decontaminate.evaluation_sets")
    return DecontaminateMetrics(**dict(metrics), evaluation_texts=len(texts))


def _note_texts(texts: Iterable[tuple[str, str]], out_dir: Path) -> None:
    """Write down what was looked for, so that an evaluation can say whether it was."""
    keys: dict[str, list[str]] = {}
    for name, text in texts:
        keys.setdefault(name, []).append(hashlib.blake2b(question_key(text).encode(), digest_size=8).hexdigest())
    content = {name: sorted(set(found)) for name, found in sorted(keys.items())}
    (out_dir / REMOVED).write_text(json.dumps(content) + "\n", encoding="utf-8")


def evaluation_texts(config: DecontaminateConfig, reasoning: Path) -> Iterator[tuple[str, str]]:
    """Set name and text of everything that training must not see."""
    for split in ("validation", "test"):
        for file in resolve([str(reasoning / f"{split}.jsonl")]):
            for text in read_texts(file, ("question",), may_be_empty=True):
                yield f"reasoning/{split}", text
    for name, file in set_files(config.evaluation_sets):
        for text in read_texts(file, config.fields):
            yield name, text


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
            words = (match[0].casefold() for match in _words(_compared(text)))
            ids = tuple(self.words.setdefault(word, len(self.words)) for word in words)
            length = min(len(ids), n_gram)
            if length < min_n_gram:
                continue
            for start in range(len(ids) - length + 1):
                self.grams.setdefault(length, {}).setdefault(ids[start : start + length], name)

    def find(self, text: str) -> Match | None:
        """The first evaluation text in `text`, the longest n-grams first."""
        for length, begin, name in self._hits(text):
            spans = _spans(text)
            return Match(name, (spans[begin][0], spans[begin + length - 1][1]))
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
        spans = _spans(text)
        return [Match(name, (spans[begin][0], spans[end - 1][1])) for begin, end, name in stretches]

    def _hits(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Length, first word and set of each n-gram in `text`, the longest first."""
        ids = [self.words.get(match[0].casefold(), -1) for match in _words(_compared(text))]
        for length, grams in sorted(self.grams.items(), reverse=True):
            run = 0
            for end, word in enumerate(ids, 1):
                run = run + 1 if word >= 0 else 0
                if run >= length and (name := grams.get(tuple(ids[end - length : end]))):
                    yield length, end - length, name


def _words(text: str) -> Iterator[re.Match[str]]:
    """Its words; one is a letter with the marks on it in a script without spaces. A word has underscores within it:
    those around it are emphasis, and a row of them is a blank to be filled in."""
    if "_" in text:
        text = _AROUND_WORDS.sub(lambda found: " " * len(found[0]), text)
    return (_ASCII_WORD if text.isascii() else _WORD).finditer(text)


def _compared(text: str) -> str:
    """`text` as it is compared: in NFKC, without what is invisible (soft hyphens, joiners, marks of direction), and
    without the vowel points that Hebrew and Arabic may have or not."""
    return text if text.isascii() else _POINTS.sub("", unicodedata.normalize("NFKC", text.translate(widened)))


def _spans(text: str) -> list[tuple[int, int]]:
    """Where in `text` each word of what is compared stands.

    Normal forms are made character by character, each with the marks on it; should a text's be other than those of its
    characters, its words are all of it.
    """
    compared = _compared(text)
    if compared == text:
        return [match.span() for match in _words(text)]
    parts: list[str] = []
    places: list[tuple[int, int]] = []
    for match in _CHARACTER.finditer(text):
        parts.append(_compared(match[0]))
        places += [match.span()] * len(parts[-1])
    if "".join(parts) != compared:
        return [(0, len(text)) for _ in _words(compared)]
    return [(places[match.start()][0], places[match.end() - 1][1]) for match in _words(compared)]


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
                    rule = f"{len(list(_words(_compared(span))))}-gram"
                    ledger.reject(document, rule, before)
                    rejects.write(document, rule)
            ledger.save(self.out_dir / ".work", rank)
