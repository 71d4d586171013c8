"""From a model or a run to the documents that a step of its pretraining read, and from a document to the steps of all
its trainings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from pydantic import ValidationError

from flows.recipe.places import sections_at
from flows.recipe.recipe import Recipe
from flows.recipe.stages import CHECKPOINTS, stage_names
from flows.registry.facts import lineage_in
from flows.registry.names import tags_of
from flows.run.record import find_record
from infra.errors import UserError, first_problem
from infra.manifest import Manifest, split_address
from infra.open_store import open_store
from infra.section import Section
from infra.settings import Settings
from infra.store import Store

if TYPE_CHECKING:
    from model.training.text_order import TextOrder
    from pipeline.tokens.names import DocumentName
    from pipeline.tokens.reader import TracedDocument

__all__ = ["Readings", "Trace", "lineages", "readings", "trace"]


@dataclass(frozen=True)
class Trace:
    """What one step read."""

    identity: str
    """Of the `pretrain` artifact."""
    step: int
    steps: int
    """That the training took."""
    epochs: float
    """Times that the split had been read through before this step; with a mixture, as if there were none."""
    documents: list[TracedDocument]
    """In the order of the batch."""


def trace(settings: Settings, name: str, step: int) -> Trace:
    """The documents of `step` (from 0) of the pretraining behind `name`: a run, MODEL@ALIAS or MODEL/VERSION.

    Raises:
        UserError: there is no such model or run, its artifacts are gone, or the training has no such step.
    """
    store = open_store(settings, writes=False)
    identity = lineages(settings, store, name).get("pretrain")
    manifest = store.find("pretrain", identity) if identity else None
    order = _order(store, name, manifest) if manifest else None
    if manifest is None or order is None:
        raise UserError(f"{name}: its pretraining is not in {store.address}; is --root the store it was made in?")
    if not 0 <= step < order.steps:
        raise UserError(f"{name}: its pretraining has the steps 0 to {order.steps - 1}; there is no step {step}")
    epochs = step * order.reader.global_batch / order.reader.rows
    return Trace(manifest.identity, step, order.steps, epochs, order.reader.documents(step))


@dataclass(frozen=True)
class Readings:
    """When a stage read a document as training text."""

    stage: str
    identity: str
    """Of the stage's artifact."""
    steps: int
    """That the training took."""
    document: DocumentName
    rows: int
    """That hold a piece of it; 0 where it is in none: held out, or left over at the end of its source."""
    read_in: list[int]
    """The steps that read one of these."""


def readings(settings: Settings, name: str, document: str) -> list[Readings]:
    """Which steps of the trainings behind `name` read the document of an id: of pretraining, continued pretraining, and
    the fine-tuning stages that go on reading text; one for each document that has it and each of these stages.

    Raises:
        UserError: there is no such model or run, its artifacts are gone, or its shards have no such document.
    """
    from pipeline.tokens.names import DocumentNames

    store = open_store(settings, writes=False)
    orders = [(made, order) for made in _trainings(settings, store, name) if (order := _order(store, name, made))]
    if not orders:
        raise UserError(f"{name}: no training that reads token shards is in {store.address}; is --root its store?")
    found: list[tuple[int, Readings]] = []
    rows_of: dict[tuple[str, int], list[int]] = {}
    for manifest, order in orders:
        reader = order.reader
        names = DocumentNames(reader.folder, reader.card.documents.files)
        for index in names.find(document):
            if (rows := rows_of.get((reader.folder, index))) is None:
                rows = rows_of[reader.folder, index] = reader.rows_of(index)
            steps = sorted({step for row in rows for step in order.steps_of(row)})
            read = Readings(manifest.stage, manifest.identity, order.steps, names[index], len(rows), steps)
            found.append((index, read))
    if not found:
        raise UserError(f"{name}: its shards have no document {document}; ids are those that trace --step shows")
    return [read for _, read in sorted(found, key=itemgetter(0))]


def _trainings(settings: Settings, store: Store, name: str) -> Iterator[Manifest]:
    """The stages behind `name` that have a model and token shards, in the order they ran."""
    made = lineages(settings, store, name)
    for stage in (each for each in stage_names() if each in CHECKPOINTS and each in made):
        manifest = store.find(stage, made[stage])
        if manifest is None:
            raise UserError(f"{name}: its {stage}/{made[stage]} is not in {store.address}; is --root its store?")
        if "shards" in manifest.inputs:
            yield manifest


def _order(store: Store, name: str, manifest: Manifest) -> TextOrder | None:
    """What the training of an artifact read, as it read it."""
    from model.training.text_order import text_order

    stage, identity = split_address(manifest.inputs["shards"])
    if store.find(stage, identity) is None:
        raise UserError(f"{name}: its shards {stage}/{identity} are not in {store.address}; make them again")
    (section,) = sections_at(Recipe, (manifest.stage,))
    try:
        config = section.model_validate(manifest.config)
    except ValidationError as error:
        raise UserError(
            f"{manifest.address}: made with keys that this version does not know ({first_problem(error)})"
        ) from None
    assert isinstance(config, Section)
    return text_order(config, store.place(stage, identity), "conversations" in manifest.inputs)


def lineages(settings: Settings, store: Store, name: str) -> dict[str, str]:
    """Identity of the artifact of each stage behind a run, MODEL@ALIAS or MODEL/VERSION.

    Raises:
        UserError: there is no such model or run.
    """
    if any(run.startswith(name) for run in store.runs()):
        stages = find_record(store, name).stages
        return {stage: record.identity for stage, record in stages.items() if record.identity}
    return lineage_in(tags_of(settings, name))
