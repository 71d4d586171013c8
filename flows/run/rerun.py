"""Makes artifacts of a recorded run again, compares the bytes and throws away what it made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flows.recipe.stages import stage, stage_names
from flows.run.record import RunRecord
from infra.errors import UserError
from infra.execution import Execution
from infra.fingerprint import has_changed, packages
from infra.manifest import Manifest
from infra.runner import Job, rebuild
from infra.store import Store

__all__ = ["Comparison", "rerun_stages"]


@dataclass(frozen=True)
class Comparison:
    """What making one artifact again showed."""

    stage: str
    same: bool
    seconds: float
    text: str

    @property
    def verdict(self) -> str:
        """In two words."""
        return "same bytes" if self.same else "other bytes"


def rerun_stages(store: Store, record: RunRecord, only: str | None = None) -> Iterator[Comparison]:
    """Make every stage of a run again, or `only` one, each from the published inputs of that run.

    Raises:
        UserError: the run has no such stage, or its artifact is gone.
    """
    names = [name for name in stage_names() if name in record.stages]
    if only and only not in names:
        raise UserError(f"{record.run_id}: the run has no stage {only}; it has {', '.join(names)}")
    for name in [only] if only else names:
        identity = record.stages[name].identity
        manifest = store.find(name, identity)
        if manifest is None:
            raise UserError(f"{store.place(name, identity)}: the artifact is gone, there is nothing to compare with")
        job = Job(
            stage=name,
            version=manifest.version,
            identity=identity,
            entrypoint=stage(name).entrypoint,
            config=manifest.config,
            inputs=manifest.inputs,
            external=manifest.external,
            execution=Execution.model_validate(manifest.execution),
        )
        again = rebuild(store, job, lambda event: None)
        yield Comparison(name, again.content == manifest.content, again.seconds, _explain(manifest, again))


def _explain(manifest: Manifest, again: Manifest) -> str:
    """What is different today, and which files."""
    parts = []
    if has_changed(manifest.fingerprint, stage(manifest.stage).entrypoint):
        parts.append("other code")
    today = packages()
    changed = [f"{name} {old} → {today.get(name)}" for name, old in manifest.packages.items() if today.get(name) != old]
    if changed:
        parts.append(", ".join(changed[:3]))
    if again.content != manifest.content:
        old = {file.path: file.sha256 for file in manifest.files}
        new = {file.path: file.sha256 for file in again.files}
        files = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
        parts.append(f"{len(files)} of {len(old)} files differ: {', '.join(files[:3])}")
    else:
        parts.append(f"{len(manifest.files)} files")
    return "; ".join(parts)
