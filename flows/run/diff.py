"""What changed between two runs, and between a run and today: recipe, data, code, packages, machine, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flows.recipe.stages import stage, stage_names
from flows.run.growth import growth
from flows.run.record import RunRecord
from infra.errors import DeepmillError
from infra.fingerprint import environment, fingerprint, has_changed, packages
from infra.json_objects import JsonObject, flatten
from infra.manifest import Manifest
from infra.storage import digest_of, resolve
from infra.store import Store

__all__ = ["Change", "compare_runs", "differences_today"]

HEX = 10
"""Digits of a digest that people are shown."""
ABSENT = "–"


@dataclass(frozen=True)
class Change:
    """One thing that is not the same."""

    section: str
    """recipe, data, corpus, code, packages, machine, artifacts or metrics"""
    key: str
    before: str
    after: str


def compare_runs(store: Store, first: RunRecord, second: RunRecord) -> Iterator[Change]:
    """Every difference between two recorded runs, causes before consequences; times are no differences."""
    yield from _mapping("recipe", _without(first.recipe), _without(second.recipe))
    before, after = _manifests(store, first), _manifests(store, second)
    yield from _mapping("data", _external(before), _external(after), short=True)
    yield from (Change("corpus", *told) for told in growth(store, before, after))
    if first.revision != second.revision or first.dirty or second.dirty:
        yield Change("code", "revision", _revision(first), _revision(second))
    shared = [name for name in stage_names() if name in before and name in after]
    for name in shared:
        if before[name].fingerprint != after[name].fingerprint:
            yield Change("code", name, before[name].fingerprint[:HEX], after[name].fingerprint[:HEX])
    yield from _mapping("packages", _joined(before, "packages"), _joined(after, "packages"))
    yield from _mapping("machine", _joined(before, "environment"), _joined(after, "environment"))
    for name in stage_names():
        one, two = before.get(name), after.get(name)
        if (one and one.content) != (two and two.content):
            yield Change("artifacts", name, _content(one), _content(two))
    for name in shared:
        yield from _mapping("metrics", _numbers(before[name]), _numbers(after[name]))


def differences_today(store: Store, record: RunRecord) -> Iterator[Change]:
    """What is not as it was when the run's artifacts were made, and so might change their bytes.

    A stage is made again from its recorded configuration and the published artifacts it read, so a recipe file that has
    changed since then is no difference; outside files, code, packages and the machine are.
    """
    manifests = _manifests(store, record)
    for name, manifest in manifests.items():
        entrypoint = stage(name).entrypoint
        if has_changed(manifest.fingerprint, entrypoint):
            yield Change("code", name, manifest.fingerprint[:HEX], fingerprint(entrypoint)[:HEX])
        if stage(name).version != manifest.version:
            yield Change("code", f"{name} version", str(manifest.version), str(stage(name).version))
    yield from _mapping("packages", _joined(manifests, "packages"), packages(), only_before=True)
    yield from _mapping("machine", _joined(manifests, "environment"), environment(), only_before=True)
    for path, digest in _external(manifests).items():
        today = _digest(path)
        if today != digest:
            yield Change("data", path, digest[:HEX], today[:HEX] or "cannot be read any more")


def _manifests(store: Store, record: RunRecord) -> dict[str, Manifest]:
    entries = record.stages
    found = {name: store.find(name, entries[name].identity) for name in stage_names() if name in entries}
    return {name: manifest for name, manifest in found.items() if manifest}


def _without(recipe: Mapping[str, Any]) -> JsonObject:
    """The keys of a recipe, but for its parallelism, which changes nothing."""
    return {key: value for key, value in flatten(recipe).items() if not key.startswith("execution.")}


def _mapping(
    section: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    short: bool = False,
    only_before: bool = False,
) -> Iterator[Change]:
    keys = [*before, *(key for key in after if key not in before and not only_before)]
    for key in keys:
        one, two = before.get(key), after.get(key)
        if one != two:
            yield Change(section, key, _text(one, short), _text(two, short))


def _text(value: Any, short: bool) -> str:
    if value is None:
        return ABSENT
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text[:HEX] if short else text


def _external(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    return {path: digest for manifest in manifests.values() for path, digest in manifest.external.items()}


def _joined(manifests: Mapping[str, Manifest], attribute: str) -> dict[str, str]:
    """The packages or environment of all stages; where stages differ, the latest tells."""
    return {key: value for manifest in manifests.values() for key, value in getattr(manifest, attribute).items()}


def _numbers(manifest: Manifest) -> dict[str, float]:
    return {
        f"{manifest.stage}.{key}": value
        for key, value in flatten(manifest.metrics).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not _is_time(key)
    }


def _is_time(key: str) -> bool:
    return any(word in key for word in ("second", "per_s", "tokens_per", "utilisation", "memory"))


def _revision(record: RunRecord) -> str:
    return f"{record.revision[:HEX]}{' with local changes' if record.dirty else ''}" or ABSENT


def _content(manifest: Manifest | None) -> str:
    return f"{manifest.identity} ({manifest.content[:HEX]})" if manifest else ABSENT


def _digest(path: str) -> str:
    try:
        (file,) = resolve([path])
        return digest_of(file)
    except (DeepmillError, OSError, ValueError):
        return ""
