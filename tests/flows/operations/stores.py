"""Stores with hand-made artifacts and runs, for tests that look after a mill rather than run one."""

from __future__ import annotations

from typing import Any

from infra.manifest import Manifest, record_files
from infra.store import LocalStore

LONG_AGO = "2026-01-01T00:00:00+00:00"


def publish(store: LocalStore, stage: str, identity: str, text: str = "bytes", **facts: Any) -> Manifest:
    """An artifact of one file; `facts` are fields of its manifest."""
    staging = store.staging(stage, identity)
    staging.prepare("code")
    (staging.artifact / "data.txt").write_text(text)
    files, content = record_files(staging.artifact)
    known: dict[str, Any] = {"version": 1, "config": {}, "fingerprint": "code", "started": LONG_AGO, "seconds": 1.0}
    manifest = Manifest(
        **known | {"stage": stage, "identity": identity, "files": files, "content": content, "run_id": ""} | facts
    )
    store.publish(staging, manifest)
    return manifest


def record(store: LocalStore, run_id: str, stages: dict[str, str], **facts: Any) -> dict[str, Any]:
    """A run that made `stages` (stage to identity) long ago."""
    body: dict[str, Any] = {
        "run_id": run_id,
        "recipe_name": "tiny",
        "recipe": {},
        "started": LONG_AGO,
        "ended": "2026-01-01T00:01:00+00:00",
        "state": "completed",
        "error": None,
        "revision": "",
        "dirty": False,
        "plan": stages,
        "mlflow": {},
        "prefect": {},
        "release": {},
        "stages": {name: {"identity": each, "state": "made", "seconds": 1.0} for name, each in stages.items()},
    } | facts
    store.write_run(run_id, body)
    return body
