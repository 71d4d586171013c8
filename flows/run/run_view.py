"""The record of a run, read together with the artifacts it names: what the summary and the report are drawn from.

Everything here forgives: a run that failed, was cancelled or still runs has stages without an artifact, and a stage
without one yields no metrics and no files. Nothing here writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from flows.recipe.stages import ACTIONS, metrics_of, stage_names
from flows.run.record import RunRecord, StageRecord
from infra.errors import UserError
from infra.events import EventReader, Measured
from infra.facts import Facts, StageMetrics
from infra.json_objects import JsonObject
from infra.manifest import LOGS, Manifest
from infra.store import Store
from model.facts.evaluation import FILE as EVALUATION
from model.facts.evaluation import Evaluation
from model.facts.release import QUANTIZATION, Quantization

__all__ = ["Point", "Run", "StageView", "number"]

_ORDER = {name: place for place, name in enumerate([*stage_names(), *ACTIONS])}
"""The record is kept with sorted keys, so the order of the stages comes from their table."""

M = TypeVar("M", bound=StageMetrics)
F = TypeVar("F", bound=Facts)
Point = tuple[float, float]
"""Step and value."""


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
        self.name, self._store = name, store
        self.identity, self.state, self.why = record.identity, record.state, record.why
        self.seconds = record.seconds
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

    @cached_property
    def measured(self) -> StageMetrics | None:
        """What the stage reported, as the table of stages types it; None where there is no artifact."""
        kind = metrics_of(self.name)
        return kind.read(self.manifest.metrics) if self.manifest and kind else None

    def measured_as(self, kind: type[M]) -> M | None:
        """`measured` of a stage whose metrics are of that kind; None where they are not, or there are none."""
        return self.measured if isinstance(self.measured, kind) else None

    @property
    def cost(self) -> dict[str, float]:
        """What the artifact took to make, in this run or the one that made it."""
        return self.manifest.cost if self.manifest else {}

    @cached_property
    def folder(self) -> Path | None:
        """The artifact on this machine; fetched when the store is elsewhere."""
        if self.manifest is None:
            return None
        try:
            return self._store.path(self.name, self.identity)
        except (OSError, UserError):
            return None

    def facts(self, kind: type[F], file: str) -> F:
        """A JSON object among the artifact's files, as far as it can be read; all empty where it is absent."""
        return kind.read(self.json(file))

    def json(self, file: str) -> JsonObject:
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
                if isinstance(event, Measured):
                    for name, value in event.values.items():
                        found.setdefault(name, {})[float(event.step)] = value
        except (OSError, ValueError):
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

    def __init__(self, record: RunRecord, store: Store) -> None:
        self.record, self.store = record, store
        self.run_id, self.recipe, self.recipe_name = record.run_id, record.recipe, record.recipe_name
        self.state, self.error, self.release = record.state, record.error or "", record.release
        self.stages = [StageView(name, stage, store) for name, stage in record.stages.items()]
        self.stages.sort(key=lambda stage: _ORDER.get(stage.name, len(_ORDER)))

    def stage(self, name: str) -> StageView:
        """A stage by name; one without identity when the run did not reach it."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        return StageView(name, StageRecord(), self.store)

    @property
    def seconds(self) -> float | None:
        """Wall-clock time of the whole run; None while it runs."""
        return self.record.seconds if self.record.ended else None

    @property
    def saved_seconds(self) -> float:
        """What the artifacts that were there already had taken to make."""
        return sum(stage.manifest.seconds for stage in self.stages if stage.reused and stage.manifest)

    @cached_property
    def evaluation(self) -> Evaluation:
        """Contents of the `evaluate` artifact, with what was measured of the served weights themselves."""
        found, release = (self.stage(name).facts(Evaluation, EVALUATION) for name in ("evaluate", "evaluate_release"))
        return found.with_release(release)

    @cached_property
    def quantization(self) -> Quantization:
        """Contents of the `quantize` artifact."""
        return self.stage("quantize").facts(Quantization, QUANTIZATION)
