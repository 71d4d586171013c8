"""Drops documents that are not worth learning from, by the rules of Gopher, C4 and FineWeb as datatrove has them.

What a text is, its profile, decides which groups of rules it goes through, and the recipe has the last word for a
profile or a source (`pipeline/clean/section.py`). The first group that objects drops the document, which is kept among
the rejects under `group/reason`. ftfy mends the text first; C4 may drop lines; at the end e-mail and IP addresses are
masked. A rule that breaks on a document drops it as `failure/group`; more than `max_failures` of these stop the stage.
Under `noted` the metrics count what rules did without dropping a document: lines that C4 took out, texts mended and
masked, and the languages of what stays.

The rules were written for English. A document in another language is asked what FineWeb-2 asks of that language
(`pipeline/text/thresholds.py`); C4's rules only where the recipe says so.

Traded away: datatrove's spaCy word splitter (see `pipeline/text/words.py`), C4's list of bad words and the fastText
language model, which would be downloaded. The language model in their place ships in the `py3langid` wheel and is plain
NumPy.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result

from infra import events
from infra.errors import UserError
from pipeline.clean.filters import BUILDERS, BY_LANGUAGE, LanguageRule, by_language
from pipeline.clean.findings import FOUND, Findings
from pipeline.clean.section import GROUPS, CleanConfig, CleanRules
from pipeline.sections import Profile
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
from pipeline.tasks.guard import Budget, Extracted, Job, guarded, renew
from pipeline.tasks.ledger import DocumentMetrics, Ledger
from pipeline.tasks.losses import Losses
from pipeline.tasks.profiles import profile_of
from pipeline.tasks.task_parts import OF_DOCUMENTS, parts_of_files
from pipeline.tasks.verbatim import note_verbatim, outside, verbatim_of
from pipeline.text.languages import base_code, row_of
from pipeline.text.thresholds import ENGLISH

__all__ = ["Rules", "clean"]

REMEDY = (
    "give it the profile that fits (extract.sources.{source}.profile), or rules of its own "
    "(clean.rules_by_source.{source})"
)
DOTTED = re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]")
"""Within every IP address."""


def clean(config: CleanConfig, inputs: Mapping[str, Path], out_dir: Path) -> DocumentMetrics:
    """Filter the documents of `inputs["extract"]`.

    Raises:
        UserError: rules broke on too many documents, or no document is left.
    """
    artifact = inputs["extract"]
    files = document_files(artifact)
    work = out_dir / ".work"
    events.begin("cleaning", count_documents(artifact), "documents")
    losses = Losses("clean", config, REMEDY, source_characters(artifact))
    steps = [DocumentReader(artifact), Rules(config, out_dir, losses), DocumentWriter(out_dir)]
    settings = config.model_dump(mode="json", exclude={"max_loss", "max_loss_by_source", "max_failures"})
    parts = parts_of_files(out_dir, artifact, files, OF_DOCUMENTS, settings)
    run_pipeline(steps, len(files), work, "clean", parts=parts)
    ledger = Ledger.merged(work)
    metrics = ledger.metrics()
    failures = sum(count for rule, count in metrics.dropped.items() if rule.startswith("failure/"))
    if failures > config.max_failures * metrics.documents_in:
        raise UserError(
            f"{artifact}: rules broke on {failures} of {metrics.documents_in} documents; "
            "see rejects/ for which, or raise clean.max_failures"
        )
    losses.judge(ledger)
    if not metrics.documents_out:
        worst = max(metrics.dropped, key=metrics.dropped.__getitem__, default="nothing came in")
        raise UserError(f"{artifact}: no document passed the rules (most often: {worst}); loosen clean.rules")
    return metrics


class Rules(PipelineStep):
    """The datatrove step that judges, counts and writes the rejects."""

    type = "FILTER"
    name = "rules"

    def __init__(self, config: CleanConfig, out_dir: Path, losses: Losses | None = None) -> None:
        super().__init__()
        self.config, self.out_dir, self.losses = config, out_dir, losses or Losses("clean", config, REMEDY)
        self.found = Findings()

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        ledger = self.losses.ledger(self.out_dir / ".work")
        key = self.config.model_dump_json()
        if _prepared(key):
            renew()
        originals: deque[str] = deque()
        jobs = _jobs(key, data, originals, ledger)
        with RejectWriter(self.out_dir, rank) as rejects, CutWriter(self.out_dir, rank) as cuts:
            for document, rule in guarded(_judge, jobs, Budget(self.config.max_document_seconds)):
                original = originals.popleft()
                noted, cut, pieces = document.metadata.pop(FOUND, ({}, {}, {}))
                for name, amount in noted.items():
                    ledger.note(name, amount)
                if rule is None:
                    for name, text in pieces.items():
                        if not text.strip():
                            continue  # an empty line
                        cuts.cut(document, name, text)
                        ledger.example(document, name, text)
                    ledger.keep(document, len(original), cut)
                    if language := document.metadata.get("language"):
                        ledger.note(f"language/{language}")
                    yield document
                else:
                    document.text = original
                    ledger.reject(document, rule, len(original))
                    rejects.write(document, rule)
            ledger.save(self.out_dir / ".work", rank)

    def judge(self, document: Document) -> str | None:
        """Mend `document` in place; the rule that drops it, or None."""
        rules = self.rules_of(document.metadata["source"], profile_of(document.metadata))
        group = "encoding"
        try:
            if rules.fix_encoding:
                self._change(document, self._mending(bool(rules.unescape_html)), "mended")
            if not document.text.strip():
                return "empty"
            for group in _active(rules):
                if group == "url" and not document.metadata.get("url"):
                    self.found.note("without_address")  # text from files, of which the lists have nothing to say
                    continue
                language = _language(document, rules) if group in BY_LANGUAGE else ""
                if not by_language(rules, group, language):
                    continue
                asked = self.filter_of(group, language, rules)
                keep, reason = get_filter_result(asked.filter(document if group == "c4_quality" else _prose(document)))
                self.found.lost(getattr(asked, "cuts", ()))  # C4's
                if not keep:
                    return f"{group}/{(reason or 'score').removeprefix('gopher_')}"
            if rules.pii:
                group = "pii"
                self._mask(document)
        except Exception as error:
            document.metadata["failure"] = f"{type(error).__name__}: {error}"
            return f"failure/{group}"
        return None

    @cached_property
    def rules_of(self) -> Callable[[str, Profile], CleanRules]:
        """The rules by source and profile, put together once."""
        return cache(self.config.rules_of)

    @cached_property
    def _mending(self) -> Callable[[bool], Callable[[str], str]]:
        from pipeline.clean.mending import FastFTFY

        return cache(lambda unescape_html: FastFTFY(unescape_html).format)

    def _mask(self, document: Document) -> None:
        if "@" not in document.text and not DOTTED.search(document.text):
            return  # most texts: datatrove's patterns are tried at every word
        self._pii.restart()  # in each document, whatever the documents before it held
        self._change(document, self._pii.format, "masked")

    def _change(self, document: Document, change: Callable[[str], str], rule: str) -> None:
        """Change all of the text that is not verbatim."""
        text, spans = outside(document.text, verbatim_of(document.metadata), change)
        note_verbatim(document.metadata, spans)
        self.found.replaced(document.text, text, rule)
        document.text = text

    @cached_property
    def _pii(self) -> Any:
        from pipeline.clean.masking import FastPII

        return FastPII()

    @cached_property
    def _filters(self) -> dict[tuple[str, int, str], BaseFilter]:
        return {}

    def filter_of(self, group: str, language: str = ENGLISH, rules: CleanRules | None = None) -> BaseFilter:
        """The datatrove filter of a group, made when a document first needs it: some load lists or a model.

        Without `rules` those of crawled pages.
        """
        rules = rules or self.rules_of("", Profile.WEB)
        key = (group, id(rules), language if group in BY_LANGUAGE else "")
        if key not in self._filters:
            self._filters[key] = BUILDERS[group](rules, language)
        return self._filters[key]


_rules_of: dict[str, Rules] = {}
"""Rules that are ready, by their section: what they load is loaded once, before the guard's process is forked."""


def _prepared(key: str) -> bool:
    """Load what the rules of a section need; whether there was anything to do."""
    if key in _rules_of:
        return False
    rules = _rules_of[key] = Rules(CleanConfig.model_validate_json(key), Path())
    sample = __doc__ or ""
    for unescape_html in (False, True):
        rules._mending(unescape_html)(sample)
    rules._pii.format(sample)
    chosen = [rules.rules_of(source, profile) for source in ("", *rules.config.rules_by_source) for profile in Profile]
    for group in GROUPS:
        if first := next((each for each in chosen if group in _active(each)), None):
            rules.filter_of(group, rules=first).filter(
                Document(text=sample, id="", metadata={"url": "http://localhost/"})
            )
    return True


def _jobs(key: str, data: Iterable[Document], originals: deque[str], ledger: Ledger) -> Iterator[Job]:
    for document in data:
        ledger.read(document)
        originals.append(document.text)
        yield document, (key, document.id, document.text, document.metadata), None


def _judge(payload: tuple[str, str, str, dict[str, Any]]) -> Extracted:
    """The mended text, the metadata, and the rule that drops the document or None."""
    key, name, text, metadata = payload
    _prepared(key)
    rules = _rules_of[key]
    rules.found = Findings()
    document = Document(text=text, id=name, metadata=metadata)
    rule = rules.judge(document)
    return document.text, {**document.metadata, FOUND: rules.found.told()}, rule


def _active(rules: CleanRules) -> Iterator[str]:
    """Groups that are on, or left open until the language is known."""
    return (group for group in GROUPS if getattr(rules, group) is not False)


def _prose(document: Document) -> Document:
    """The document without its verbatim text, of which rules about words have nothing to say."""
    spans = verbatim_of(document.metadata)
    if not spans:
        return document
    edges = [0, *(edge for span in spans for edge in span), len(document.text)]
    pieces = (document.text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
    return Document(text="".join(pieces), id=document.id, metadata=document.metadata)


def _language(document: Document, rules: CleanRules) -> str:
    """The row of thresholds for the document's language: as noted, else the one that is wanted, else as it seems."""
    wanted = rules.languages or ()
    if not document.metadata.get("language"):
        if len(wanted) == 1:
            return row_of(base_code(wanted[0]), document.text)
        LanguageRule((), 0.0).filter(document)
    return row_of(base_code(str(document.metadata["language"])), document.text)
