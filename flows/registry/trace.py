"""From a model or a run to the documents that a step of its pretraining read, and from a document to the steps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.registry.names import parse_name, registered_version, resolve
from flows.run.record import StageRecord, find_record
from infra.errors import UserError
from infra.manifest import Manifest, split_address
from infra.open_store import open_store
from infra.settings import Settings
from infra.store import Store

if TYPE_CHECKING:
    from pipeline.tokens.names import DocumentName
    from pipeline.tokens.reader import ShardReader, TracedDocument

__all__ = ["Readings", "Trace", "lineage", "readings", "trace"]

LINEAGE = "deepmill.lineage"
"""Tag of a registered version: the identity of the artifact of each stage."""


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
    reader, manifest = _reader(settings, name)
    steps = int(manifest.config["steps"])
    if not 0 <= step < steps:
        raise UserError(f"{name}: its pretraining has the steps 0 to {steps - 1}; there is no step {step}")
    epochs = step * reader.global_batch / reader.rows
    return Trace(manifest.identity, step, steps, epochs, reader.documents(step))


@dataclass(frozen=True)
class Readings:
    """When a training read a document."""

    identity: str
    """Of the `pretrain` artifact."""
    steps: int
    """That the training took."""
    document: DocumentName
    rows: int
    """That hold a piece of it; 0 where it is in none: held out, or left over at the end of its source."""
    read_in: list[int]
    """The steps that read one of these."""


def readings(settings: Settings, name: str, document: str) -> list[Readings]:
    """Which steps of the pretraining behind `name` read the document of an id; one for each that has it.

    Raises:
        UserError: there is no such model or run, its artifacts are gone, or its shards have no such document.
    """
    from pipeline.tokens.names import DocumentNames

    reader, manifest = _reader(settings, name)
    names = DocumentNames(reader.folder, reader.card.documents.files)
    indices = names.find(document)
    if not indices:
        raise UserError(f"{name}: its shards have no document {document}; ids are those that trace --step shows")
    steps = int(manifest.config["steps"])
    wanted = [set(reader.rows_of(index)) for index in indices]
    read: list[list[int]] = [[] for _ in indices]
    for step in range(steps):
        here = reader.step_rows(step)
        for rows, found in zip(wanted, read, strict=True):
            if not rows.isdisjoint(here):
                found.append(step)
    return [
        Readings(manifest.identity, steps, names[index], len(rows), found)
        for index, rows, found in zip(indices, wanted, read, strict=True)
    ]


def _reader(settings: Settings, name: str) -> tuple[ShardReader, Manifest]:
    """Of the pretraining behind `name`, as it read."""
    from pipeline.tokens.reader import ShardReader

    store = open_store(settings)
    manifest = _pretraining(settings, store, name)
    config = manifest.config
    stage, identity = split_address(manifest.inputs["shards"])
    if store.find(stage, identity) is None:
        raise UserError(f"{name}: its shards {stage}/{identity} are not in {store.address}; make them again")
    reader = ShardReader(
        store.path(stage, identity),
        "train",
        global_batch=config["batch_size"],
        seed=config["seed"],
        mixture=config["mixture"],
    )
    return reader, manifest


def _pretraining(settings: Settings, store: Store, name: str) -> Manifest:
    identity = lineage(settings, store, name, "pretrain")
    manifest = store.find("pretrain", identity) if identity else None
    if manifest is None:
        raise UserError(f"{name}: its pretraining is not in {store.address}; is --root the store it was made in?")
    return manifest


def lineage(settings: Settings, store: Store, name: str, stage: str) -> str | None:
    """Identity of the artifact of `stage` behind a run, MODEL@ALIAS or MODEL/VERSION; None where it has none.

    Raises:
        UserError: there is no such model or run.
    """
    if any(run.startswith(name) for run in store.runs()):
        return find_record(store, name).stages.get(stage, StageRecord()).identity or None
    from infra.tracking import registry_client

    client = registry_client(settings)
    parsed = parse_name(name)
    version = resolve(client, parsed)
    tags = registered_version(client, parsed.model, version).tags
    return dict(json.loads(tags.get(LINEAGE, "{}"))).get(stage)
