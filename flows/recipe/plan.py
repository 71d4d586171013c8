"""What a recipe would run, what is cached, and why: worked out without running anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows.recipe.recipe import OnDrift, Recipe
from flows.recipe.removals import asked
from flows.recipe.stages import Stage, downstream, graph, stage_names
from infra.digests import DigestCache, Take
from infra.errors import UserError
from infra.execution import Execution, Executor
from infra.hashing import identity_of
from infra.json_objects import JsonObject, flatten
from infra.manifest import Manifest, address, split_address
from infra.runner import Elsewhere, Job, drift
from infra.section import Added, External, ForPeople, earlier_names, is_marked
from infra.storage import ExternalFile, resolve
from infra.store import Store
from infra.units import plural
from pipeline.sections import ExtractConfig

__all__ = ["Plan", "PlannedStage", "State", "identity_config", "make_plan", "on_cluster"]


class State(StrEnum):
    """What will happen to a stage."""

    CACHED = "cached"
    RUN = "run"
    PINNED = "pinned"
    DRIFTED = "drifted"
    """Cached, but made by other code; kept, as the recipe's `on_drift` says."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage of one recipe."""

    stage: Stage
    job: Job
    state: State
    why: str
    manifest: Manifest | None = None
    """Of the artifact, where there is one."""
    external: tuple[str, ...] = field(default=())

    @property
    def runs(self) -> bool:
        return self.state is State.RUN


@dataclass(frozen=True)
class Plan:
    """What a recipe would run on one store, worked out once and passed on."""

    recipe: Recipe
    restart_from: str | None
    stages: tuple[PlannedStage, ...]
    """In the order they run."""

    @property
    def waiting(self) -> list[PlannedStage]:
        """The stages that would run."""
        return [item for item in self.stages if item.runs]

    @property
    def identities(self) -> dict[str, str]:
        """Of each stage's artifact."""
        return {item.stage.name: item.job.identity for item in self.stages}


def make_plan(recipe: Recipe, store: Store, *, restart_from: str | None = None) -> Plan:
    """Every stage of `recipe` with its identity, in order. `restart_from` makes that stage and all after it again.

    Raises:
        UserError: a source file is missing, or a pin names nothing.
    """
    _check_names(recipe.pins, "pins", recipe)
    _check_names(recipe.execution.stages, "execution.stages")
    if restart_from:
        _check_names([restart_from], "--from", recipe)
    nodes = graph(recipe.has)
    again = downstream([restart_from], nodes) if restart_from else set()
    digests = DigestCache(store.local / "digests.db")
    identities: dict[str, str] = {}
    planned: list[PlannedStage] = []
    try:
        for node in nodes:
            row = node.stage
            section = _with_requests(recipe.section(row.name), store)
            external: dict[str, str] = {}
            execution = recipe.execution.of(row.name)
            cluster = on_cluster(execution, store)
            config = identity_config(section, digests, external, cluster.take if cluster else None, row.name)
            inputs = {role: address(name, identities[name]) for role, name in node.inputs.items()}
            identity = recipe.pins.get(row.name) or identity_of(row.name, row.version, config, inputs)
            identities[row.name] = identity
            job = Job(
                stage=row.name,
                version=row.version,
                identity=identity,
                entrypoint=row.entrypoint,
                config=_without_words(section),
                inputs=inputs,
                external=external,
                execution=execution,
                keep_parts=recipe.execution.keep_parts,
                imports=row.imports if execution.ranks == 1 else (),  # else the ranks import, each for itself
            )
            planned.append(_decide(row, job, recipe, store, planned, row.name in again))
    finally:
        digests.close()
    _look_at_model(recipe, {item.stage.name for item in planned if item.runs})
    return Plan(recipe, restart_from, tuple(planned))


def _look_at_model(recipe: Recipe, runs: set[str]) -> None:
    """What `tokenizer`, `start`, `continued` and `quantize` would refuse of a model that exists, after hours."""
    prune = recipe.quantize.prune if recipe.quantize and "quantize" in runs else None
    sections = {"start": recipe.start, "continued": recipe.continued}
    begun = [
        Path(path)
        for name, section in sections.items()
        if section and (name in runs or (prune and prune.share))
        for path in section.checkpoint
    ]
    if begun and all(path.exists() for path in begun):
        from model.architecture.first_look import look_at

        for path in begun:
            architecture = look_at(path)
        if prune and prune.share:
            try:
                prune.architecture(architecture)  # of the last one, which fine-tuning starts from
            except ValueError as error:
                raise UserError(f"{begun[-1]}: {error}") from None
    if "tokenizer" in runs and recipe.tokenizer.adopt and all(Path(path).exists() for path in recipe.tokenizer.adopt):
        from pipeline.tokens.adopt import check_adoption

        check_adoption(recipe.tokenizer)


def _with_requests(section: BaseModel | None, store: Store) -> BaseModel:
    """The section of `extract` with what the store's requests for removal ask for; any other as it is."""
    assert section is not None  # the graph has no stage that the recipe leaves out
    if not isinstance(section, ExtractConfig) or not (asks := asked(store)):
        return section
    return section.model_copy(update={"removed": tuple(dict.fromkeys((*section.removed, *asks)))})


def _decide(
    row: Stage, job: Job, recipe: Recipe, store: Store, before: list[PlannedStage], again: bool
) -> PlannedStage:
    manifest = store.find(row.name, job.identity)
    if row.name in recipe.pins:
        if manifest is None:
            raise UserError(f"pins.{row.name}: there is no artifact {row.name}/{job.identity} in {store.address}")
        return PlannedStage(row, job, State.PINNED, "the recipe pins it", manifest)
    if manifest is None:
        return PlannedStage(row, job, State.RUN, _reason(job, store, before))
    if again:
        return PlannedStage(row, job, State.RUN, "asked for by --from", manifest)
    changed = drift(store, job, manifest)
    if changed and recipe.on_drift is OnDrift.RERUN:
        return PlannedStage(row, job, State.RUN, changed, manifest)
    if changed:
        return PlannedStage(row, job, State.DRIFTED, f"{changed}; kept (on_drift: keep)", manifest)
    return PlannedStage(row, job, State.CACHED, f"made {manifest.started[:16].replace('T', ' ')}", manifest)


def _reason(job: Job, store: Store, before: list[PlannedStage]) -> str:
    """Why there is no artifact yet: what differs from the latest one of the stage."""
    latest = store.latest(job.stage)
    if latest is None:
        return "first time"
    if latest.version != job.version:
        return f"version {latest.version} → {job.version} of the stage"
    before_asked, now_asked = (set(config.get("removed", ())) for config in (latest.config, job.config))
    old, new = (flatten({**config, "removed": None}) for config in (latest.config, job.config))
    changes = [
        f"{plural(len(asks), 'request')} for removal {which}"
        for which, asks in (("more", now_asked - before_asked), ("fewer", before_asked - now_asked))
        if asks
    ]
    changes += [
        f"{job.stage}.{key}: {_short(old.get(key))} → {_short(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if changes:
        return ", ".join(changes[:2]) + (f" and {len(changes) - 2} more" if len(changes) > 2 else "")
    running = {item.stage.name for item in before if item.runs}
    inputs = [split_address(where)[0] for role, where in job.inputs.items() if latest.inputs.get(role) != where]
    if inputs:
        verb = "is" if len(inputs) == 1 else "are"
        return f"{' and '.join(inputs)} {verb} {'rebuilt' if running.intersection(inputs) else 'another'}"
    if latest.external != dict(job.external):
        return "the source files have changed"
    return "not made yet"


def _short(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _check_names(names: Iterable[str], where: str, recipe: Recipe | None = None) -> None:
    known = [name for name in stage_names() if recipe is None or recipe.has(name)]
    for name in names:
        if name in known:
            continue
        if name in stage_names():
            raise UserError(f"{where}: the recipe leaves out the stage {name}")
        raise UserError(f"{where}: {name} is no stage; there are {', '.join(known)}")


def on_cluster(execution: Execution, store: Store) -> Elsewhere | None:
    """What reads and sends many bytes: the tasks of a cluster where the data stages have one."""
    if execution.executor is Executor.LOCAL:
        return None

    def take(files: Sequence[ExternalFile]) -> list[str]:
        from pipeline.tasks.digests import digests_on  # heavy, and hardly ever needed

        return digests_on(execution, files, store.local / ".digests")

    def send(files: Mapping[str, Path]) -> None:
        from pipeline.tasks.digests import send_on

        send_on(execution, files, store.local / ".digests")

    return Elsewhere(take, send)


def identity_config(
    section: BaseModel, digests: DigestCache, external: dict[str, str], elsewhere: Take | None = None, place: str = ""
) -> JsonObject:
    """A section as it enters an identity: contents stand in for external paths. Fills `external` path by path.

    Raises:
        UserError: a path names nothing that can be read; its key is named, below `place`.
    """
    config = _without_words(section)
    _replace(section, config, digests, external, elsewhere, place)
    return config


def _replace(
    section: BaseModel,
    config: JsonObject,
    digests: DigestCache,
    external: dict[str, str],
    elsewhere: Take | None,
    place: str,
) -> None:
    for name, description in type(section).model_fields.items():
        value = getattr(section, name)
        if name not in config:
            continue
        if is_marked(description, Added) and value == description.default:
            del config[name]
        elif is_marked(description, External):
            files = _resolved(value, f"{place}.{name}") if value else []
            found = dict(zip(files, digests.of(files, elsewhere), strict=True))
            config[name] = [[file.name, digest] for file, digest in found.items()]
            external |= {file.path: digest for file, digest in found.items()}
        elif isinstance(value, BaseModel):
            _replace(value, config[name], digests, external, elsewhere, f"{place}.{name}")
        elif isinstance(value, Mapping):
            for key, item in value.items():
                if isinstance(item, BaseModel):
                    _replace(item, config[name][key], digests, external, elsewhere, f"{place}.{name}.{key}")
    for name, earlier in earlier_names(type(section)).items():
        if name in config:
            config[earlier] = config.pop(name)


def _resolved(paths: Sequence[str], key: str) -> list[ExternalFile]:
    """The files that a key of the recipe names; what is wrong with them is said with the key."""
    try:
        return resolve(paths)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def _without_words(section: BaseModel) -> JsonObject:
    """A section as JSON, without what only people read: no stage is given it, so no stage can depend on it."""
    config: JsonObject = section.model_dump(mode="json")
    _drop_words(section, config)
    return config


def _drop_words(section: BaseModel, config: JsonObject) -> None:
    for name, description in type(section).model_fields.items():
        value = getattr(section, name)
        if is_marked(description, ForPeople):
            del config[name]
        elif isinstance(value, BaseModel):
            _drop_words(value, config[name])
        elif isinstance(value, Mapping):
            for key, item in value.items():
                if isinstance(item, BaseModel):
                    _drop_words(item, config[name][key])
