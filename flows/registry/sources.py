"""From a text to the training documents that it stands in, by the index of a model's or a run's token shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.registry.trace import lineages
from flows.run.record import StageRecord, records
from infra.errors import UserError
from infra.manifest import Manifest, address, split_address
from infra.open_store import open_store
from infra.settings import Settings
from infra.store import Store

if TYPE_CHECKING:
    from pipeline.index.spans import Sources

__all__ = ["TextSources", "text_sources"]

REMEDY = "add `index: {}` to the recipe and run it again: only that stage is made"


@dataclass(frozen=True)
class TextSources:
    """An index that answers, and whose it is."""

    identity: str
    """Of the `index` artifact."""
    tokens: int
    """That it covers."""
    sources: Sources


def text_sources(settings: Settings, name: str = "") -> TextSources:
    """What finds texts in the training documents behind `name`: a run, MODEL@ALIAS or MODEL/VERSION; when empty, in
    those of the index that was made last.

    Raises:
        UserError: there is no such model or run, its shards have no index, or an artifact is gone.
    """
    store = open_store(settings, writes=False)
    manifest = _index_of(settings, store, name)
    shards = _input(store, manifest, "shards")
    tokenizer = _input(store, shards, "tokenizer")
    index, spelling = store.place(manifest.stage, manifest.identity), store.path(tokenizer.stage, tokenizer.identity)
    from pipeline.index.spans import Sources

    licences = _licences(store, shards.identity)
    sources = Sources(index, store.place(shards.stage, shards.identity), spelling, licences)
    return TextSources(manifest.identity, sum(piece.tokens for piece in sources.card.pieces), sources)


def _index_of(settings: Settings, store: Store, name: str) -> Manifest:
    if not name:
        latest = store.latest("index")
        if latest is None:
            raise UserError(f"{store.address}: no index of training tokens in it; {REMEDY}")
        return latest
    shards = lineages(settings, store, name).get("shards")
    if not shards:
        raise UserError(f"{name}: it was made without token shards of its own; there is no training text to look in")
    mine = [each for each in store.manifests("index") if each.inputs.get("shards") == address("shards", shards)]
    if not mine:
        raise UserError(f"{name}: its training tokens have no index in {store.address}; {REMEDY}")
    return max(mine, key=lambda each: each.started)


def _input(store: Store, manifest: Manifest, role: str) -> Manifest:
    stage, identity = split_address(manifest.inputs[role])
    found = store.find(stage, identity)
    if found is None:
        raise UserError(
            f"{manifest.stage}/{manifest.identity}: its {stage}/{identity} is not in {store.address}; make it again"
        )
    return found


def _licences(store: Store, shards: str) -> dict[str, str]:
    """What is stated of the sources by the recipe of the latest run on these shards."""
    record = next(
        (each for each in records(store) if each.stages.get("shards", StageRecord()).identity == shards), None
    )
    said = record.recipe.get("extract", {}).get("sources", {}) if record else {}
    return {name: source["licence"] for name, source in said.items() if source.get("licence")}
