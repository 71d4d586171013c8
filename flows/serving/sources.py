"""Where served versions come from: MLflow's registry, or a folder on disk."""

from __future__ import annotations

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows.registry.audit import audit
from flows.registry.files import WEIGHTS, VersionFiles
from flows.registry.names import Name, parse_name, resolve
from flows.serving.model_manager import Source, Version
from infra.errors import UserError
from infra.integrity import check_folder
from infra.manifest import MANIFEST, read_manifest
from infra.settings import Settings
from infra.store import REMEDY
from infra.tracking import registry_client

if TYPE_CHECKING:
    from pipeline.index.spans import Sources

__all__ = ["find_source"]

log = logging.getLogger("deepmill.serve")
KEPT_VERSIONS = 3
"""Fetched versions that stay in the cache, for a way back without a download."""


def find_source(text: str, settings: Settings, cache: Path) -> tuple[str, Source]:
    """The name to serve under, and the source, of ``NAME@ALIAS``, ``NAME/VERSION`` or a folder.

    Raises:
        UserError: it is neither, or the registry has no such model.
    """
    folder = Path(text)
    if folder.is_dir() and (folder / "config.json").is_file():
        return folder.resolve().name, _folder(folder.resolve())
    if folder.exists():
        raise UserError(f"{text}: no folder of a model: it has no config.json; name the folder `model` of an export")
    name = parse_name(text)
    resolve(registry_client(settings), name)
    return name.model, _registry(name, settings, cache)


def _folder(folder: Path) -> Source:
    return Source(current=lambda: "", fetch=partial(_verified, folder))


def _verified(folder: Path, number: str) -> Version:
    """A folder on disk; one that lies in an artifact is compared with the artifact's manifest."""
    path = folder.parent / MANIFEST
    if path.is_file():
        manifest = read_manifest(path.read_bytes(), str(path))
        below = f"{folder.name}/"
        recorded = {name.removeprefix(below): each for name, each in manifest.digests.items() if name.startswith(below)}
        if recorded:
            check_folder(folder, recorded, REMEDY)
    return Version(folder.name, number, folder)


def _registry(name: Name, settings: Settings, cache: Path) -> Source:
    client = registry_client(settings)

    def current() -> str | None:
        if name.version:
            return name.version
        verdict = audit(settings, name.model, name.alias)  # what was promoted by hand is judged before it is served
        if verdict.message:
            log.warning("%s", verdict.message)
        return verdict.version

    def fetch(number: str) -> Version:
        files, recorded = VersionFiles(client, settings, name.model, number).fetch(
            cache / f"{name.model}-{number}" / "files"
        )
        if recorded is None:
            log.warning("%s/%s: registered without checksums, so its files are not verified", name.model, number)
        _forget(cache, name.model)
        return Version(name.model, number, files / WEIGHTS)

    def aliases(number: str) -> set[str]:
        followed = set() if name.version else {name.alias}  # still ours while its new version is prepared
        return followed | set(client.get_model_version(name.model, number).aliases)

    def sources(number: str) -> Sources | None:
        from flows.registry.sources import text_sources

        try:
            return text_sources(settings, f"{name.model}/{number}").sources
        except UserError as error:  # most versions have none: a model without it is no worse
            log.info("%s; so no answer is traced to its sources", error)
        except Exception:
            log.exception("%s/%s: its answers cannot be traced to their sources", name.model, number)
        return None

    return Source(current, fetch, aliases, sources)


def _forget(cache: Path, model: str) -> None:
    """Leave the latest few versions of `model` in the cache."""
    found = sorted(cache.glob(f"{model}-*"), key=lambda path: path.stat().st_mtime)
    for old in found[:-KEPT_VERSIONS]:
        shutil.rmtree(old, ignore_errors=True)
