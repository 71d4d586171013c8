"""What may go: artifacts that no kept run and no registered model needs. Shown first, deleted on demand.

Kept are the artifacts of the latest runs and of every run that is not over, of every version in the registry, whatever
recipe files pin, and what is younger than a number of days. If the registry cannot be asked, nothing is deleted.

Artifacts that hold text which somebody asked to have removed go before all these reasons, but for a run that is not
over, once they are asked for by themselves.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.recipe.removals import active
from flows.recipe.stages import ACTIONS, stage_names
from flows.registry.facts import lineage_in
from flows.run.record import RunRecord, read_record
from infra.errors import UserError, first_line
from infra.kept_parts import holding, unused
from infra.manifest import split_address
from infra.settings import Settings
from infra.store import Store

__all__ = ["GCCandidate", "GCPlan", "apply_gc", "plan_gc", "plan_removed"]

LEFTOVERS = (".staging", ".rerun", ".fetched", ".chat")
"""Local folders of unfinished work and fetched copies."""

Key = tuple[str, str]
"""Stage and identity."""


@dataclass(frozen=True)
class GCCandidate:
    """One artifact, or a folder of leftovers, that nothing needs."""

    stage: str
    identity: str
    bytes: int
    made: str
    leaving: Path | None = None

    @property
    def name(self) -> str:
        return str(self.leaving) if self.leaving else f"{self.stage}/{self.identity}"


@dataclass(frozen=True)
class GCPlan:
    """What a retention run would delete."""

    items: list[GCCandidate] = field(default_factory=list)
    looked_at: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    """Reason to number of artifacts kept for it; an artifact counts for the first that holds."""
    parts: dict[Path, int] = field(default_factory=dict)
    """Kept parts of data stages that nothing took any more, with the bytes that go with them (`infra.kept_parts`)."""
    runs: frozenset[str] = frozenset()
    """The runs there were; others are looked at before anything goes, however their machine's clock names them."""

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items) + sum(self.parts.values())


def needed_by(record: RunRecord | None) -> set[Key]:
    """The artifacts that a run made, used, or planned."""
    if record is None:
        return set()
    return set(record.plan.items()) | {(name, entry.identity) for name, entry in record.stages.items()}


def plan_removed(store: Store) -> GCPlan:
    """The artifacts that hold text which somebody asked to have removed, whoever needs them, and the kept parts with
    their files; runs that are not over keep theirs."""
    runs = store.runs()
    records = (read_record(store, name) for name in runs)
    busy = {key for record in records if record and record.state_now == "running" for key in needed_by(record)}
    held: dict[str, set[str]] = {}
    for each in (each for request in active(store) for each in request.reached if each.holds_text):
        held.setdefault(each.artifact, set()).update(each.files)
    items, kept, digests = [], 0, set()
    for where, files in sorted(held.items()):
        if (manifest := store.find(*split_address(where))) is None:
            continue
        digests |= {manifest.digests[path] for path in files if path in manifest.digests}
        if (manifest.stage, manifest.identity) in busy:
            kept += 1
        else:
            items.append(GCCandidate(manifest.stage, manifest.identity, manifest.size, manifest.started))
    tokens = {"shards"} if any(item.stage == "shards" for item in items) else set()  # parts have other files than it
    parts = dict(holding(store.local, digests, tokens))
    return GCPlan(items, len(held), {"a run that is not over": kept}, parts, frozenset(runs))


def plan_gc(store: Store, settings: Settings, keep_runs: int, keep_days: float) -> GCPlan:
    """Decide what may go. Reads run records and the registry, and the manifests of what nobody named.

    Raises:
        UserError: MLflow cannot be reached, so it is not known what registered models need.
    """
    runs = store.runs()
    reasons: dict[str, set[Key]] = {
        "a registered model": _registered(settings),
        f"one of the latest {keep_runs} runs": set(),
        "a run that is not over": set(),
    }
    latest = set(runs[-keep_runs:])
    for name in runs:
        if name in latest:
            reasons[f"one of the latest {keep_runs} runs"] |= needed_by(read_record(store, name))
        elif (record := read_record(store, name)) and record.state == "running":
            reasons["a run that is not over"] |= needed_by(record)
    youngest = (datetime.now(UTC) - timedelta(days=keep_days)).isoformat(timespec="seconds")
    kept = dict.fromkeys([*reasons, f"younger than {keep_days:g} days"], 0)
    items, looked_at = [], 0
    known = {*stage_names(), *ACTIONS}
    for stage, identity in store.artifacts():
        looked_at += 1
        why = next((reason for reason, keys in reasons.items() if (stage, identity) in keys), None)
        if why is None:
            manifest = store.find(stage, identity)
            if manifest is None or stage not in known:
                continue  # being made at this moment, or not ours
            if manifest.started < youngest:
                items.append(GCCandidate(stage, identity, manifest.size, manifest.started))
                continue
            why = f"younger than {keep_days:g} days"
        kept[why] += 1
    items += _leftovers(store, keep_days)
    parts = dict(unused(store.local, time.time() - keep_days * 86_400))
    return GCPlan(items, looked_at, kept, parts, frozenset(runs))


def _registered(settings: Settings) -> set[Key]:
    from infra.tracking import registry_client

    try:
        versions = registry_client(settings).search_model_versions()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"MLflow cannot say what registered models need ({first_line(error)}); nothing may be deleted"
        ) from None
    return {key for version in versions for key in lineage_in(version.tags).items()}


def _leftovers(store: Store, keep_days: float) -> list[GCCandidate]:
    """Unfinished work that nobody went on with, and fetched copies that nobody read, for so many days."""
    found = []
    oldest = time.time() - keep_days * 86_400
    for name in LEFTOVERS:
        for folder in sorted((store.local / name).glob("*/*")):
            touched = max((path.lstat().st_mtime for path in [folder, *folder.rglob("*")]), default=0.0)
            if touched < oldest:
                length = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
                made = datetime.fromtimestamp(touched, UTC).isoformat(timespec="seconds")
                found.append(GCCandidate(folder.parent.name, folder.name, length, made, folder))
    return found


def apply_gc(store: Store, plan: GCPlan) -> int:
    """Delete what `plan` shows, but for what runs that began since then want; the bytes freed."""
    freed = 0
    for item in plan.items:
        with store.lease(item.stage, item.identity, lambda holder: None):
            since = [name for name in store.runs() if name not in plan.runs]
            if any((item.stage, item.identity) in needed_by(read_record(store, name)) for name in since):
                continue
            if item.leaving:
                shutil.rmtree(item.leaving, ignore_errors=True)
            else:
                store.withdraw(item.stage, item.identity)
            freed += item.bytes
    for part, length in plan.parts.items():  # who takes one at this moment finds it gone, and makes it again
        shutil.rmtree(part, ignore_errors=True)
        freed += length
    return freed
