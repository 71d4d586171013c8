"""Requests for removal: made over all that a store holds, and taken back. Versions whose training text had the
documents carry a tag, which a gate looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flows.recipe.removals import FoundDocument, Reached, Request, find_request, keep
from flows.recipe.removals import take_back as record_taken_back
from flows.recipe.stages import STAGES
from flows.registry.facts import lineage_in
from flows.registry.removal_tags import tag, untag
from flows.report.accounts import STAGES as OF_DOCUMENTS
from infra.errors import UserError
from infra.manifest import Manifest, address, split_address
from infra.open_store import open_store
from infra.settings import DATABASE, Settings
from infra.store import Store
from pipeline.removal.asks import Ask, Kind, Removals, Signature, sign
from pipeline.removal.search import named_in, search_documents
from pipeline.sections import ExtractConfig
from pipeline.tasks.documents import read_documents

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["request_removal", "take_back"]

MOST_SIGNED = 10_000
"""Documents of one request whose copies are looked for; others of a whole site go by their address alone."""
MOST_KEPT = 1000
"""Documents named in the record of a request."""
PIECES = "pieces"
"""Of the stage `index`, which holds the tokens themselves."""
OVERLAP = ExtractConfig().removed_overlap


def request_removal(settings: Settings, kind: Kind, value: str, why: str = "") -> Request:
    """Record a request, with all that it reaches in the store and the registry; versions are tagged.

    Args:
        settings: Name the store and the registry.
        kind: What `value` is:
        value: an address (all that begin so, if it ends in *), the id of a document of the store, or a file of text.
        why: In the record.

    Raises:
        UserError: no document of the store has the id, the file is no text, or the address is none.
        MlflowException: the registry does not answer; nothing was recorded.
    """
    store = open_store(settings)
    versions = _versions(settings)
    extracts = store.manifests("extract")
    ask = _ask(store, extracts, kind, value)
    found = {manifest.address: list(_found(store, manifest, ask)) for manifest in extracts}
    reached, carried = _reach(store, {where: {each.id for each in each_found} for where, each_found in found.items()})
    mine = [version for version in versions if _learned(version, store, carried)]
    request = keep(
        store,
        ask.name,
        ask.model_dump(mode="json"),
        kind=str(kind),
        value=Path(value).name if kind is Kind.FILE else value,
        why=why,
        looked_at=tuple(found),
        found=tuple(each for each_found in found.values() for each in each_found)[:MOST_KEPT],
        reached=tuple(reached),
        versions=tuple(f"{version.name}/{version.version}" for version in mine),
    )
    tag(settings, request)
    return request


def take_back(settings: Settings, name: str, why: str = "") -> Request:
    """Take the request back whose id begins with `name`; versions lose its tag.

    Raises:
        UserError: there is no such request.
    """
    store = open_store(settings)
    request = find_request(store, name)
    taken = record_taken_back(store, request, why)
    untag(settings, request, _versions(settings))
    return taken


def _ask(store: Store, extracts: list[Manifest], kind: Kind, value: str) -> Ask:
    if kind is Kind.FILE:
        return Ask(kind=kind, texts=(_signed_file(Path(value)),))
    if kind is Kind.URL and not value.strip("*/ "):
        raise UserError("--url: name an address; all of a site as https://example.org/*")
    by_address = Removals([("asked", Ask(kind=kind, address=value))], OVERLAP)
    texts: dict[str, Signature] = {}
    for manifest in extracts:
        folder = store.path(manifest.stage, manifest.identity)
        for where in ("documents", "rejects"):
            for document in read_documents(folder, where):
                named = document.id == value if kind is Kind.ID else by_address.match(document)
                if named and len(texts) < MOST_SIGNED and (signature := sign(document.text)):
                    texts.setdefault(signature.digest, signature)
    if kind is Kind.ID and not texts:
        raise UserError(f"{value}: no document of {store.address} has this id; deepmill trace shows ids")
    return Ask(kind=kind, address=value if kind is Kind.URL else "", texts=tuple(texts.values()))


def _signed_file(path: Path) -> Signature:
    try:
        found = sign(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a file with the text") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the text as UTF-8") from None
    if found is None:
        raise UserError(f"{path}: no words in it; give the text that is to be left out")
    return found


def _found(store: Store, manifest: Manifest, ask: Ask) -> Iterator[FoundDocument]:
    removals = Removals([(ask.name, ask)], manifest.config.get("removed_overlap", OVERLAP))
    for document, match in search_documents(store.path(manifest.stage, manifest.identity), removals):
        yield FoundDocument(
            artifact=manifest.address,
            id=document.id,
            source=document.metadata["source"],
            url=document.metadata.get("url") or "",
            characters=len(document.text),
            how=match.how,
            overlap=round(match.overlap, 3),
        )


def _reach(store: Store, found: Mapping[str, set[str]]) -> tuple[list[Reached], set[str]]:
    """The artifacts that the documents with these ids, by `extract` artifact, went into; and those that passed them
    on."""
    every = set().union(*found.values())
    carried: dict[str, set[str]] = {}
    reached = []
    if not every:
        return [], set()
    for stage in STAGES:
        for manifest in store.manifests(stage.name):
            ids = found.get(manifest.address) or _ids_in(store, manifest, carried, every)
            if ids and (each := _look(store, manifest, ids)):
                reached.append(each)
                if each.passed_on:
                    carried[manifest.address] = ids
    return reached, set(carried)


def _ids_in(store: Store, manifest: Manifest, carried: Mapping[str, set[str]], every: set[str]) -> set[str]:
    """The ids that may have come in; all of them where the text that was read is gone from the store."""
    ids: set[str] = set()
    for where in manifest.inputs.values():
        stage, identity = split_address(where)
        if where in carried:
            ids |= carried[where]
        elif stage in OF_DOCUMENTS and store.find(stage, identity) is None:
            ids |= every
    return ids


def _look(store: Store, manifest: Manifest, ids: set[str]) -> Reached | None:
    """What an artifact has of documents with these ids; None for nothing."""
    if manifest.stage not in OF_DOCUMENTS:
        return Reached(artifact=manifest.address, files={PIECES: len(ids)} if manifest.stage == "index" else {})
    files = named_in(store.path(manifest.stage, manifest.identity), ids)
    passed_on = any(path.startswith(("documents/", "index/")) for path in files)
    return Reached(artifact=manifest.address, files=files, passed_on=passed_on) if files else None


def _versions(settings: Settings) -> list[ModelVersion]:
    """All registered versions; none where nothing was ever registered here."""
    if not settings.tracking_uri and not (settings.local_root / DATABASE).exists():
        return []
    from infra.tracking import registry_client

    return list(registry_client(settings).search_model_versions())


def _learned(version: ModelVersion, store: Store, carried: set[str]) -> bool:
    """Whether the shards of a version had the documents; its `extract` artifact decides where they are gone."""
    lineage = lineage_in(version.tags)
    shards, extract = lineage.get("shards", ""), lineage.get("extract", "")
    if shards and store.find("shards", shards) is not None:
        return address("shards", shards) in carried
    return address("extract", extract) in carried
