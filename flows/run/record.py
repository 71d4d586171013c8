"""The record of a run: what the store keeps of it as JSON, and the one model through which it is read and written."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from infra.errors import UserError, first_problem
from infra.json_objects import JsonObject
from infra.processes import ProcessMark, is_alive_here
from infra.store import Store

__all__ = [
    "RUN_ID",
    "GateRecord",
    "ReleaseRecord",
    "RunRecord",
    "StageRecord",
    "find_record",
    "read_record",
    "records",
    "report_file",
    "write_record",
]


RUN_ID = "deepmill.run_id"
"""Tag in MLflow of what a run made there, its own run and the registered version: the name of its record."""


class _Record(BaseModel):
    """Keys that another version of the code knows are left alone; keys that it did not know have their defaults."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)


class StageRecord(_Record):
    """What one run did about one stage."""

    identity: str = ""
    state: str = ""
    """running, made, cached, pinned, drifted (cached, but made by other code) or failed"""
    started: str = ""
    seconds: float = 0.0
    """What it took in this run."""
    why: str = ""


class GateRecord(_Record):
    """One condition of promotion, as it was judged."""

    gate: str
    passed: bool
    value: float | None = None
    limit: float | None = None
    text: str = ""


class ReleaseRecord(_Record):
    """What the run did in the model registry; empty where it did nothing there."""

    model: str = ""
    version: str = ""
    alias: str = ""
    promoted: bool = False
    gates: list[GateRecord] = Field(default_factory=list)
    previous: str | None = None
    """The version that held the alias before."""


class RunRecord(_Record):
    """One run of a recipe."""

    run_id: str = ""
    recipe_name: str = "recipe"
    recipe: JsonObject = Field(default_factory=dict)
    """As it was run; `Recipe.model_validate` reads it where today's keys are still the same."""
    started: str = ""
    """UTC, ISO 8601, as `ended`."""
    ended: str | None = None
    state: str = ""
    """running, completed, failed, cancelled, or interrupted: killed, as somebody found out later"""
    error: str | None = None
    revision: str = ""
    """Of the code, and whether it had been edited."""
    dirty: bool = False
    root: str = ""
    """Address of the store."""
    report: str = ""
    """Where the report lies, once it is written elsewhere than beside the record."""
    mlflow: dict[str, str] = Field(default_factory=dict)
    prefect: dict[str, str] = Field(default_factory=dict)
    plan: dict[str, str] = Field(default_factory=dict)
    """Identity of each stage's artifact."""
    stages: dict[str, StageRecord] = Field(default_factory=dict)
    release: ReleaseRecord = Field(default_factory=ReleaseRecord)
    process: ProcessMark | None = None
    """Of the flow."""

    @field_validator("process", mode="before")
    @classmethod
    def _nobody_said(cls, value: object) -> object:
        return value or None

    @field_validator("release", mode="before")
    @classmethod
    def _none_yet(cls, value: object) -> object:
        return {} if value is None else value

    @property
    def state_now(self) -> str:
        """The state, or `interrupted` where the process of a run that did not end is gone from this machine."""
        if self.state == "running" and self.process and is_alive_here(self.process) is False:
            return "interrupted"
        return self.state

    @property
    def seconds(self) -> float | None:
        """How long the run took, or has been going on; None when that is not known."""
        try:
            started = datetime.fromisoformat(self.started)
            ended = datetime.fromisoformat(self.ended) if self.ended else datetime.now(started.tzinfo)
            return (ended - started).total_seconds() if self.ended or self.state_now == "running" else None
        except (TypeError, ValueError):
            return None


def read_record(store: Store, run_id: str) -> RunRecord | None:
    """The record of a run; None where there is none.

    Raises:
        UserError: it cannot be understood.
    """
    kept = store.read_run(run_id)
    if kept is None:
        return None
    try:
        return RunRecord.model_validate({"run_id": run_id} | kept)
    except ValidationError as error:
        raise UserError(f"run {run_id}: its record is damaged ({first_problem(error)}); delete it") from None


def write_record(store: Store, record: RunRecord) -> None:
    """Keep the record as it is now."""
    store.write_run(record.run_id, record.model_dump(mode="json"))


def records(store: Store) -> Iterator[RunRecord]:
    """Of all runs, the latest first."""
    for name in reversed(store.runs()):
        if record := read_record(store, name):
            yield record


def find_record(store: Store, name: str) -> RunRecord:
    """The record of the latest run whose name begins with `name`.

    Raises:
        UserError: there is none.
    """
    found = [run for run in store.runs() if run.startswith(name)]
    record = read_record(store, found[-1]) if found else None
    if record is None and not name:
        raise UserError(f"no run in {store.address} yet: deepmill run sample")
    if record is None:
        raise UserError(f"{name}: no such run in {store.address}; see deepmill status")
    return record


def report_file(store: Store, run_id: str) -> Path:
    """Where the report of a run lies unless it was wanted elsewhere."""
    return store.local / "runs" / f"{run_id}.html"
