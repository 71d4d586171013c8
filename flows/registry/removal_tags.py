"""Tags of registered versions whose training text had documents that somebody asked to have removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from flows.recipe.removals import Request, active, heeded
from flows.registry.file_gates import REMOVAL
from infra.settings import Settings
from infra.store import Store
from infra.tracking import registry_client

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["tag", "tag_reached", "untag"]


def tag(settings: Settings, request: Request) -> None:
    """Tag the versions that a request names."""
    if not request.versions:
        return
    client = registry_client(settings)
    for name in request.versions:
        model, _, version = name.rpartition("/")
        client.set_model_version_tag(model, version, f"{REMOVAL}{request.id}", f"{request.kind} {request.value}")


def untag(settings: Settings, request: Request, versions: Iterable[ModelVersion]) -> None:
    """Take the tags of a request away from whichever versions have them."""
    for version in versions:
        if f"{REMOVAL}{request.id}" in version.tags:
            registry_client(settings).delete_model_version_tag(version.name, version.version, f"{REMOVAL}{request.id}")


def tag_reached(settings: Settings, store: Store, version: str, lineage: Mapping[str, str]) -> None:
    """Tag a version (as MODEL/VERSION) that was just registered, for each request that its run did not heed."""
    for request in active(store):
        if _reaches(request, store, lineage):
            tag(settings, request.model_copy(update={"versions": (version,)}))


def _reaches(request: Request, store: Store, lineage: Mapping[str, str]) -> bool:
    """Whether the shards of a lineage have documents of a request, for all that is known of a run that was under way
    when it was made."""
    extract, shards = (store.find(name, lineage.get(name, "")) for name in ("extract", "shards"))
    if extract is None or request.ask in heeded(extract):
        return False
    reached = {each.artifact for each in request.reached}
    if shards is not None and shards.address in reached:
        return True
    if extract.address in request.looked_at and extract.address not in reached:
        return False
    return shards is None or shards.ended > request.at  # else it was looked at, and had none
