"""The record of a run, read together with the artifacts it names: what the summary and the report are drawn from.

Everything here forgives: a run that failed, was cancelled or still runs has stages without an artifact, and a stage
without one yields no metrics and no files. Nothing here writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

from flows.recipe.stages import ACTIONS, stage_names
from infra.errors import UserError
from infra.events import EventReader
from infra.manifest import LOGS, Manifest
from infra.processes import is_alive_here
from infra.store import Store

__all__ = [
    "Gate",
    "Point",
    "Release",
    "Run",
    "RunRecord",
    "StageRecord",
    "StageView",
    "find_record",
    "number",
    "seconds_of",
    "state_now",
]

_ORDER = {name: place for place, name in enumerate([*stage_names(), *ACTIONS])}
"""The record is kept with sorted keys, so the order of the stages comes from their table."""

Point = tuple[float, float]
"""Step and value."""


class StageRecord(TypedDict, total=False):
    """What one run did about one stage."""

    identity: str
    state: str
    """running, made, cached, pinned, drifted (cached, but made by other code) or failed"""
    seconds: float
    started: str
    why: str


class Gate(TypedDict, total=False):
    """One condition of promotion."""

    gate: str
    passed: bool
    value: float | None
    limit: float | None
    text: str


class Release(TypedDict, total=False):
    """What the run did in the model registry."""

    model: str
    version: str
    alias: str
    promoted: bool
    gates: list[Gate]
    previous: str | None


class RunRecord(TypedDict, total=False):
    """The JSON that the store keeps of a run."""

    run_id: str
    recipe_name: str
    recipe: dict[str, Any]
    started: str
    ended: str | None
    state: str
    """running, completed, failed, cancelled, or interrupted: killed, as somebody found out later"""
    error: str | None
    revision: str
    dirty: bool
    root: str
    report: str
    """Where the report lies, once it is written."""
    mlflow: dict[str, str]
    prefect: dict[str, str]
    stages: dict[str, StageRecord]
    release: Release | None
    process: dict[str, Any]
    """Of the flow; see `infra.processes`."""


def state_now(record: Mapping[str, Any]) -> str:
    """The recorded state, or `interrupted` where the process of a run that did not end is gone from this machine."""
    if record["state"] == "running" and is_alive_here(record.get("process") or {}) is False:
        return "interrupted"
    return str(record["state"])


def find_record(store: Store, name: str) -> dict[str, Any]:
    """The record of the latest run whose name begins with `name`.

    Raises:
        UserError: there is none.
    """
    found = [run for run in store.runs() if run.startswith(name)]
    if not found:
        raise UserError(f"{name}: no such run in {store.address}; see deepmill status")
    record = store.read_run(found[-1])
    assert record is not None
    return dict(record)


def seconds_of(record: Mapping[str, Any]) -> float | None:
    """How long a run took, or has been going on; None when that is not known."""
    try:
        started = datetime.fromisoformat(record["started"])
        ended = datetime.fromisoformat(record["ended"]) if record.get("ended") else datetime.now(started.tzinfo)
    except (KeyError, TypeError, ValueError):
        return None
    return (ended - started).total_seconds() if record.get("ended") or state_now(record) == "running" else None


def number(values: Any, *names: str) -> float | None:
    """The first of `names` (dotted for nested mappings) that holds a finite number in the mapping `values`."""
    for name in names:
        found: Any = values
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
            return float(found)
    return None


class StageView:
    """One stage of a run with its artifact, where there is one."""

    def __init__(self, name: str, record: StageRecord, store: Store) -> None:
        self.name, self._record, self._store = name, record, store
        self.identity = str(record.get("identity") or "")
        self.state = str(record.get("state") or "")
        self.why = str(record.get("why") or "")
        self.seconds = float(record.get("seconds") or 0.0)
        """What it took in this run."""

    @cached_property
    def manifest(self) -> Manifest | None:
        """What the store knows of the artifact."""
        if not self.identity:
            return None
        try:
            return self._store.find(self.name, self.identity)
        except (OSError, ValueError):
            return None

    @property
    def reused(self) -> bool:
        """Whether the artifact was there before this run."""
        return self.state in ("cached", "pinned", "drifted")

    @property
    def metrics(self) -> dict[str, Any]:
        """What the stage reported."""
        return self.manifest.metrics if self.manifest else {}

    @property
    def cost(self) -> dict[str, float]:
        """What the artifact took to make, in this run or the one that made it."""
        return self.manifest.cost if self.manifest else {}

    def number(self, *names: str) -> float | None:
        """The first of these metrics that holds a number."""
        return number(self.metrics, *names)

    @cached_property
    def folder(self) -> Path | None:
        """The artifact on this machine; fetched when the store is elsewhere."""
        if self.manifest is None:
            return None
        try:
            return self._store.path(self.name, self.identity)
        except (OSError, UserError):
            return None

    def json(self, file: str) -> dict[str, Any]:
        """A JSON object among the artifact's files; empty where it is absent or no object."""
        if self.folder is None:
            return {}
        try:
            found = json.loads((self.folder / file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def series(self) -> dict[str, list[Point]]:
        """The metric series of the events kept with the artifact; a step reported twice counts as told last."""
        found: dict[str, dict[float, float]] = {}
        if self.folder is None:
            return {}
        try:
            for event in EventReader(self.folder / LOGS / "events.jsonl").new():
                if event.get("event") == "metrics":
                    for name in event["values"]:
                        value = number(event["values"], name)
                        if value is not None:
                            found.setdefault(name, {})[float(event["step"])] = value
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a torn log costs the points after the tear
        return {name: sorted(points.items()) for name, points in found.items()}

    def history(self) -> dict[str, list[Point]]:
        """The series of a training stage: those of its ``history.json``, else those of its events."""
        kept = self.json("history.json")
        steps = rows_to_series(kept.get("steps"))
        validation = rows_to_series(kept.get("validation"))
        found = steps | {f"validation_{name}": points for name, points in validation.items()}
        return self.series | found


def rows_to_series(rows: Any) -> dict[str, list[Point]]:
    """Columns of rows such as ``{"step": 3, "loss": 2.5}`` as series over `step`."""
    found: dict[str, list[Point]] = {}
    for row in rows if isinstance(rows, list) else ():
        step = number(row, "step") if isinstance(row, Mapping) else None
        if step is None:
            continue
        for name in row:
            value = number(row, name)
            if name != "step" and value is not None:
                found.setdefault(name, []).append((step, value))
    return found


class Run:
    """A run record and the artifacts it names."""

    def __init__(self, record: Mapping[str, Any], store: Store) -> None:
        self.record, self.store = record, store
        self.run_id = str(record.get("run_id") or "")
        self.recipe: dict[str, Any] = dict(record.get("recipe") or {})
        self.recipe_name = str(record.get("recipe_name") or self.recipe.get("name") or "recipe")
        self.state = str(record.get("state") or "")
        self.error = str(record.get("error") or "")
        self.release: Release = record.get("release") or Release()
        stages = record.get("stages") or {}
        self.stages = [StageView(name, stage or StageRecord(), store) for name, stage in stages.items()]
        self.stages.sort(key=lambda stage: _ORDER.get(stage.name, len(_ORDER)))

    def stage(self, name: str) -> StageView:
        """A stage by name; one without identity when the run did not reach it."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        return StageView(name, {}, self.store)

    @property
    def seconds(self) -> float | None:
        """Wall-clock time of the whole run; None while it runs."""
        try:
            started = datetime.fromisoformat(str(self.record["started"]))
            return max((datetime.fromisoformat(str(self.record["ended"])) - started).total_seconds(), 0.0)
        except (KeyError, ValueError, TypeError):
            return None

    @property
    def saved_seconds(self) -> float:
        """What the artifacts that were there already had taken to make."""
        return sum(stage.manifest.seconds for stage in self.stages if stage.reused and stage.manifest)

    @property
    def evaluation(self) -> dict[str, Any]:
        """Contents of the `evaluate` artifact."""
        return self.stage("evaluate").json("evaluation.json")
