"""What can be said of a run's training data, found in its record and artifacts: the facts of `deepmill disclose`.

No clock and no guess: what was not measured is None, what only people know is what the recipe's `disclosure` and the
`licence`, `origin` and `link` of its sources say. The same artifacts and recipe give the same facts.

Sources: the template of the European Commission for Article 53(1)(d) of Regulation (EU) 2024/1689 (C(2025) 5235 of
24 July 2025; domains by size: its footnote 16), California Civil Code 3111(a), and Datasheets for Datasets (arXiv
1803.09010).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import PurePath

from pydantic import Field

from flows.recipe.sections import DisclosureConfig
from flows.report.accounts import STAGES
from flows.run.run_view import Run, StageView
from infra.errors import UserError
from infra.facts import Facts
from infra.hashing import digest
from infra.json_objects import JsonObject
from model.facts.training import DpoMetrics, GrpoMetrics, RejectionMetrics, TrainingMetrics
from pipeline.reasoning.chats import ConversationsMetrics
from pipeline.reasoning.problems import ReasoningMetrics
from pipeline.sections import Origin
from pipeline.tasks.ledger import Account, DocumentMetrics
from pipeline.tokens.metrics import ShardMetrics, SourceShards

__all__ = ["Disclosure", "disclosure"]

BANDS = ((1e9, "less than 1 billion tokens"), (1e13, "1 billion to 10 trillion tokens"))
"""Upper ends of the template's bands for text; the last one has none."""
MORE = "more than 10 trillion tokens"
NAMED, NAMED_SMALL, MOST_SMALL = 0.1, 0.05, 1000
"""Share of crawled domains that is named, and for small and medium-sized enterprises, who need not name more."""
MASKED, LANGUAGE = "masked", "language/"
"""What `clean` notes of documents."""


class SourceFacts(Facts):
    """One source of text."""

    name: str
    kind: str = ""
    """Of its files; empty where the source was set apart from others."""
    profile: str = ""
    licence: str = ""
    origin: Origin = Origin.NOT_STATED
    link: str = ""
    documents_read: int | None = None
    characters_read: int | None = None
    documents: int | None = None
    """In the training split,"""
    characters: int | None = None
    tokens: int | None = None
    first_collected: str | None = None
    """Month, as YYYY-MM, of the records that are dated,"""
    last_collected: str | None = None
    dated: int = 0
    """of which there are so many."""


class DomainFacts(Facts):
    """A website that was crawled."""

    name: str
    documents: int
    tokens: int


class FilterFacts(Facts):
    """What one stage did to the documents."""

    stage: str
    does: str
    documents_in: int
    documents_out: int
    characters_in: int
    characters_out: int
    rejected: dict[str, int] = Field(default_factory=dict)
    """Documents, by rule."""
    cut: dict[str, int] = Field(default_factory=dict)
    """Characters out of documents that stay, by rule."""


class SyntheticFacts(Facts):
    """Data that no person wrote."""

    stage: str
    made_by: str
    amount: int | None = None
    unit: str = ""


class ArtifactFacts(Facts):
    """What proves the rest: an artifact by its identity, and the digest of its contents."""

    stage: str
    identity: str
    content: str
    started: str
    """When it was begun to be made, as its manifest says."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the files that it read from outside of the store, by their names."""
    files_digest: str = ""
    """Of these together."""


class Disclosure(Facts):
    """All that is known, and all that was stated."""

    run_id: str
    recipe: str
    model: str
    """With the artifact that it was exported as: it is known before the registry gives that a number."""
    run_started: str
    last_made: str | None
    """When the last of its artifacts was ready."""
    first_read: str | None
    """When the raw files were first read for this model."""
    stated: DisclosureConfig
    tokens: int | None
    """Of the training split."""
    band: str | None
    tokens_read: dict[str, int]
    """By each training of text, with repeats."""
    held_out_tokens: int | None
    languages: dict[str, int]
    """Documents by language, of those whose language was found out, after the quality rules."""
    sources: list[SourceFacts]
    domains: list[DomainFacts] | None
    """The largest of the crawled domains; None where their index is not there."""
    domains_found: int | None
    filters: list[FilterFacts]
    copies: int | None
    masked: int | None
    """Documents in which addresses were masked."""
    evaluation_texts: int | None
    problems: dict[str, int]
    """Problems of the training split by kind, whoever made them."""
    problems_origin: str
    conversations: int | None
    conversations_stated: SourceFacts | None
    problems_stated: SourceFacts | None
    synthetic: list[SyntheticFacts]
    base_models: dict[str, str]
    """Files of models that this one was made from, by name, with their SHA-256."""
    artifacts: list[ArtifactFacts]

    def of_origin(self, origin: str) -> list[SourceFacts]:
        """The sources of text, problems and conversations of that origin; of none with an empty one."""
        extra = [each for each in (self.problems_stated, self.conversations_stated) if each]
        return [each for each in (*self.sources, *extra) if each.origin == origin]


def disclosure(run: Run, recipe: Mapping[str, object] | None = None) -> Disclosure:
    """The facts of a run; `recipe` is one that says what the run's own leaves out, else the run's is taken.

    Raises:
        UserError: the store has no corpus of this run.
    """
    shards = run.stage("shards")
    if run.stage("extract").manifest is None and shards.manifest is None:
        raise UserError(f"{run.run_id}: the store has neither its extract nor its shards; see deepmill status")
    told = run.recipe if recipe is None else dict(recipe)
    counted = shards.measured_as(ShardMetrics)
    tokens = counted.train_tokens if counted else None
    clean = run.stage("clean").measured_as(DocumentMetrics)
    copies = run.stage("dedup").measured_as(DocumentMetrics)
    stated = DisclosureConfig.model_validate(_section(told, "disclosure"))
    sources = _sources(run, told)
    domains = _domains(shards, sources)
    extract = run.stage("extract").manifest
    problems = run.stage("reasoning").measured_as(ReasoningMetrics)
    talks = run.stage("conversations").measured_as(ConversationsMetrics)
    by_kind = {name: splits.get("train", 0) for name, splits in ((problems and problems.by_task) or {}).items()}
    if problems and problems.train_tasks and not by_kind:
        by_kind = {"of all kinds": problems.train_tasks}
    return Disclosure(
        run_id=run.run_id,
        recipe=run.recipe_name,
        model=_model(run),
        run_started=run.record.started,
        last_made=max((stage.manifest.ended for stage in run.stages if stage.manifest), default=None),
        first_read=extract.started if extract else None,
        stated=stated,
        tokens=tokens,
        band=None if tokens is None else next((name for end, name in BANDS if tokens < end), MORE),
        tokens_read=_tokens_read(run),
        held_out_tokens=counted.validation_tokens if counted else None,
        languages=_languages(clean),
        sources=sources,
        domains=None if domains is None else domains[: _named(len(domains), stated.small_enterprise is True)],
        domains_found=None if domains is None else len(domains),
        filters=list(_filters(run)),
        copies=sum(copies.dropped.values()) if copies else None,
        masked=clean.noted.get(MASKED, 0) if clean and clean.noted else None,
        evaluation_texts=_evaluation_texts(run),
        problems=by_kind,
        problems_origin=_problems_origin(run.stage("reasoning")),
        conversations=talks.train_conversations if talks else None if "conversations" in run.record.stages else 0,
        conversations_stated=_beside(told, "conversations", "files of conversations") if talks else None,
        problems_stated=_beside(told, "reasoning", "files of problems") if _reads_problems(run) else None,
        synthetic=list(_synthetic(run)),
        base_models={name: sha for stage in ("start", "continued") for name, sha in _files(run.stage(stage)).items()},
        artifacts=[_artifact(stage) for stage in run.stages if stage.manifest],
    )


def _model(run: Run) -> str:
    """The name that it is registered under, with its artifact; the recipe's where there is none yet."""
    export = run.stage("export").manifest
    if export is None:
        return run.recipe_name
    return f"{_section(run.recipe, 'registry').get('model') or f'deepmill-{run.recipe_name}'} ({export.address})"


def _section(recipe: Mapping[str, object], *names: str) -> JsonObject:
    """A section of the recipe; empty where there is none."""
    found: object = recipe
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _sources(run: Run, recipe: Mapping[str, object]) -> list[SourceFacts]:
    """Every source that gave a document, by name: those of the recipe, and those that `recall` set apart."""
    accounts = {name: _accounts(run.stage(name)) for name in STAGES}
    shards = run.stage("shards").measured_as(ShardMetrics)
    reached = {} if shards is None else shards.by_source
    names = {name for each in accounts.values() for name in each} | set(_section(recipe, "extract", "sources"))
    months = _months(run, sorted(names))
    found = []
    for name in sorted(names):
        read, kept = accounts["extract"].get(name), reached.get(name, SourceShards()) if shards else None
        when = months.get(name)
        said = {**_section(run.recipe, "extract", "sources", name), **_section(recipe, "extract", "sources", name)}
        found.append(
            SourceFacts.read({**said, "name": name}).model_copy(
                update={
                    "documents_read": read.documents_in if read else None,
                    "characters_read": read.characters_in if read else None,
                    "documents": _counted(kept.train_documents, kept.train_tokens) if kept else None,
                    "characters": _counted(kept.train_characters, kept.train_tokens) if kept else None,
                    "tokens": kept.train_tokens if kept else None,
                    "first_collected": when[0] if when else None,
                    "last_collected": when[1] if when else None,
                    "dated": when[2] if when else 0,
                }
            )
        )
    return found


def _counted(amount: int, tokens: int) -> int | None:
    """What there is of so many tokens; None where an earlier version did not count it."""
    return amount if amount or not tokens else None


def _accounts(stage: StageView) -> Mapping[str, Account]:
    metrics = stage.measured_as(DocumentMetrics)
    return metrics.by_source if metrics else {}


def _months(run: Run, sources: list[str]) -> dict[str, tuple[str, str, int]]:
    """First and last month, and how many documents are dated, of what was last read before it became tokens."""
    folder = run.stage("decontaminate").folder
    if folder is None or not (folder / "documents").is_dir():
        return {}
    from pipeline.tasks.collected import collected  # with datatrove, which takes its time

    return {name: (each.first, each.last, each.dated) for name, each in collected(folder, sources).items()}


def _domains(shards: StageView, sources: list[SourceFacts]) -> list[DomainFacts] | None:
    """All domains of crawled sources: of those that are said to be, and of files of web pages that nobody says of."""
    crawled = [
        each.name
        for each in sources
        if each.origin is Origin.CRAWLED or (each.kind == "web" and each.origin is Origin.NOT_STATED)
    ]
    if shards.folder is None or not (shards.folder / "index").is_dir():
        return None
    from pipeline.tokens.domains import domains

    return [DomainFacts(name=d.name, documents=d.documents, tokens=d.tokens) for d in domains(shards.folder, crawled)]


def _named(found: int, small: bool) -> int:
    """How many of so many domains the template asks for."""
    return min(math.ceil(NAMED_SMALL * found), MOST_SMALL) if small else math.ceil(NAMED * found)


def _languages(clean: DocumentMetrics | None) -> dict[str, int]:
    noted = clean.noted if clean else {}
    found = {name.removeprefix(LANGUAGE): n for name, n in noted.items() if name.startswith(LANGUAGE)}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _filters(run: Run) -> Iterator[FilterFacts]:
    from flows.recipe.stages import stage

    for name in STAGES:
        found = run.stage(name).measured_as(DocumentMetrics)
        if found is None or not found.documents_in:
            continue
        cut: dict[str, int] = {}
        for account in found.by_source.values():
            for rule, characters in account.cut.items():
                cut[rule] = cut.get(rule, 0) + characters
        yield FilterFacts(
            stage=name,
            does=stage(name).title,
            documents_in=found.documents_in,
            documents_out=found.documents_out,
            characters_in=found.characters_in,
            characters_out=found.characters_out,
            rejected=dict(sorted((rule, n) for rule, n in found.dropped.items() if n)),
            cut=dict(sorted((rule, n) for rule, n in cut.items() if n)),
        )


def _evaluation_texts(run: Run) -> int | None:
    from pipeline.dedup.removed import DecontaminateMetrics

    found = run.stage("decontaminate").measured_as(DecontaminateMetrics)
    return found.evaluation_texts if found else None


def _tokens_read(run: Run) -> dict[str, int]:
    found = {stage.name: stage.measured_as(TrainingMetrics) for stage in run.stages}
    return {name: metrics.tokens for name, metrics in found.items() if metrics and metrics.tokens}


def _files(stage: StageView) -> dict[str, str]:
    """SHA-256 of what an artifact read from outside of the store, by name alone: paths tell of people's machines."""
    found: dict[str, str] = {}
    for path, sha in sorted((stage.manifest.external if stage.manifest else {}).items()):
        name = PurePath(path.partition("?")[0]).name
        found[name if found.get(name, sha) == sha else f"{name} ({sha[:12]})"] = sha
    return found


def _problems_origin(stage: StageView) -> str:
    config = stage.manifest.config if stage.manifest else {}
    made = "generated by programs (reasoning-gym, and writers of worked solutions)" if config.get("tasks") else ""
    read = "read from files" if config.get("files") else ""  # others are of questions that are left out
    return " and ".join(part for part in (made, read) if part)


def _reads_problems(run: Run) -> bool:
    manifest = run.stage("reasoning").manifest
    return bool(manifest and manifest.config.get("files"))


def _beside(recipe: Mapping[str, object], section: str, name: str) -> SourceFacts:
    """What is stated of files that are no source of text."""
    return SourceFacts.read(_section(recipe, section) | {"name": name, "kind": "", "profile": ""})


def _synthetic(run: Run) -> Iterator[SyntheticFacts]:
    """What no person wrote, as far as the run made it itself."""
    reasoning = run.stage("reasoning")
    problems = reasoning.measured_as(ReasoningMetrics)
    if problems and reasoning.manifest and reasoning.manifest.config.get("tasks"):
        own = {str(task["name"]) for task in reasoning.manifest.config["tasks"]}
        by_task = problems.by_task or {}
        amount = sum(splits.get("train", 0) for name, splits in by_task.items() if name in own) if by_task else None
        yield SyntheticFacts(stage="reasoning", made_by="programs, not models", amount=amount, unit="problems")
    for stage in run.stages:
        if found := stage.measured_as(RejectionMetrics):
            made_by = "this run's own model, its answers judged by programs"
            yield SyntheticFacts(stage=stage.name, made_by=made_by, amount=found.train_tasks, unit="answers kept")
        elif (pairs := stage.measured_as(DpoMetrics)) and not _files(stage):
            yield SyntheticFacts(stage=stage.name, made_by="this run's own model", amount=pairs.pairs, unit="pairs")
        elif stage.measured_as(GrpoMetrics):
            yield SyntheticFacts(stage=stage.name, made_by="this run's own model, while it was trained", unit="answers")


def _artifact(stage: StageView) -> ArtifactFacts:
    manifest = stage.manifest
    assert manifest is not None
    files = _files(stage)
    return ArtifactFacts(
        stage=stage.name,
        identity=manifest.identity,
        content=manifest.content,
        started=manifest.started,
        files=files,
        files_digest=digest(sorted(files.items())) if files else "",
    )
