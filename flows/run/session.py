"""One run of a recipe: the plan, the record, and where each stage's events go (terminal, Prefect, MLflow).

Knows nothing of Prefect: flows call `Session.run_stage` from a task and pass a listener for Prefect's part.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from flows.recipe.plan import Plan, PlannedStage, State, make_plan, on_cluster
from flows.recipe.recipe import OnDrift, Recipe
from flows.recipe.sample_text import gather_sample_text
from flows.run.mlflow_log import MlflowLog
from flows.run.record import RunRecord, StageRecord, write_record
from infra import tracing
from infra.errors import DeepmillError, UserError
from infra.events import Event, Listener
from infra.manifest import Manifest, split_address
from infra.open_store import open_store
from infra.processes import this_process
from infra.runner import drift, make
from infra.settings import Settings
from infra.store import Store

__all__ = [
    "Display",
    "Session",
    "Silent",
    "active_session",
    "current_session",
    "open_session",
    "planned_as",
    "watched_by",
]

log = logging.getLogger("deepmill.run")
STOPPED = "stopped before its end; the same recipe, run again, goes on from there"
"""What the record of a cancelled run says."""


class Display(Protocol):
    """Shows a run to a person as it goes."""

    def stage_begins(self, name: str, title: str, number: int, of: int) -> None: ...

    def event(self, event: Event) -> None: ...

    def stage_ends(self, name: str, state: str, seconds: float, said: str = "") -> None: ...

    def note(self, text: str) -> None: ...


class Silent:
    """A display for runs that nobody watches."""

    def stage_begins(self, name: str, title: str, number: int, of: int) -> None:
        pass

    def event(self, event: Event) -> None:
        pass

    def stage_ends(self, name: str, state: str, seconds: float, said: str = "") -> None:
        pass

    def note(self, text: str) -> None:
        pass


_current: contextvars.ContextVar[Session | None] = contextvars.ContextVar("session", default=None)
_display: contextvars.ContextVar[Display] = contextvars.ContextVar("display", default=Silent())  # noqa: B039
_plan: contextvars.ContextVar[Plan | None] = contextvars.ContextVar("plan", default=None)


class Session:
    """A run in progress. Made by `open_session`."""

    def __init__(
        self, recipe: Recipe, settings: Settings, store: Store, display: Display, restart_from: str | None
    ) -> None:
        self.recipe, self.settings, self.store, self.display = recipe, settings, store, display
        started = datetime.now(UTC)
        self.run_id = f"{started:%Y%m%d-%H%M%S}-{recipe.name}-{secrets.token_hex(2)}"
        plan = _plan.get()
        if plan is None or plan.recipe != recipe or plan.restart_from != restart_from:
            plan = make_plan(recipe, store, restart_from=restart_from)
        self.plan = {item.stage.name: replace(item, job=replace(item.job, run_id=self.run_id)) for item in plan.stages}
        revision, dirty = _revision()
        self.record = RunRecord(
            run_id=self.run_id,
            recipe_name=recipe.name,
            recipe=recipe.model_dump(mode="json"),
            started=started.isoformat(timespec="seconds"),
            state="running",
            revision=revision,
            dirty=dirty,
            root=store.address,
            process=this_process(),
            plan={name: item.job.identity for name, item in self.plan.items()},
        )
        self.save()
        self.mlflow = MlflowLog(settings, self.record, display.note)

    def save(self) -> None:
        """Keep the record as it is now."""
        write_record(self.store, self.record)

    def identity(self, name: str) -> str:
        """Identity of a stage's artifact in this run."""
        return self.plan[name].job.identity

    def manifest(self, name: str) -> Manifest:
        """Of a stage's artifact, which must have been made."""
        manifest = self.store.find(name, self.identity(name))
        assert manifest is not None
        return manifest

    def folder(self, name: str) -> Path:
        """Local folder of a stage's artifact."""
        return self.store.path(name, self.identity(name))

    def run_stage(self, name: str, listen: Listener) -> tuple[Manifest, State]:
        """Make or find the artifact of a stage; its events go to the display, MLflow and `listen`.

        Raises:
            UserError: the stage, or one it reads from, cannot be made for a reason the user can mend.
            StageError, StageKilledError: it broke, or was stopped.
        """
        item = self.plan[name]
        inputs = self._inputs(item)
        self.display.stage_begins(name, item.stage.title, list(self.plan).index(name) + 1, len(self.plan))
        tracked = self.mlflow.stage(item, inputs)
        entry = StageRecord(
            identity=item.job.identity,
            state="running",
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            why=item.why,
        )
        self.record.stages[name] = entry
        self.save()

        def fan_out(event: Event) -> None:
            self.display.event(event)
            tracked.event(event)
            listen(event)

        clock = time.monotonic()

        def ended(state: str, shown: str = "") -> None:
            entry.state, entry.seconds = state, round(time.monotonic() - clock, 2)
            self.display.stage_ends(name, shown or entry.state, entry.seconds)

        try:
            manifest, was_there = self._make(item, fan_out)
        except BaseException as error:
            ended("failed", "" if isinstance(error, Exception) else "stopped")
            tracked.end("FAILED" if isinstance(error, DeepmillError) else "KILLED", None)
            with contextlib.suppress(OSError):  # the disk may be full: what went wrong matters more than its record
                self.save()
            raise
        state = (item.state if not item.runs else State.CACHED) if was_there else State.RUN
        ended("made" if state is State.RUN else str(state))
        tracked.end("FINISHED", manifest, self.store.place(name, manifest.identity))
        self.save()
        return manifest, state

    def _inputs(self, item: PlannedStage) -> dict[str, Manifest]:
        """What a stage reads, by its role there."""
        found = {}
        for role, where in item.job.inputs.items():
            upstream = split_address(where)[0]
            manifest = self.store.find(upstream, self.identity(upstream))
            if manifest is None:
                raise UserError(
                    f"{item.stage.name} reads {upstream}, not made yet for this recipe; run the flow of {upstream} "
                    "first"
                )
            found[role] = manifest
        return found

    def _make(self, item: PlannedStage, listen: Listener) -> tuple[Manifest, bool]:
        """The stage's artifact, and whether it was there already."""
        with tracing.span(item.stage.name, {"deepmill.identity": item.job.identity}) as span:
            manifest, was_there = make(
                self.store,
                item.job,
                listen,
                stale=lambda found: self._stale(item, found),
                elsewhere=on_cluster(item.job.execution, self.store),
            )
            if span is not None:
                span.set_attribute("deepmill.cached", was_there)
        return manifest, was_there

    def _stale(self, item: PlannedStage, found: Manifest) -> bool:
        if item.state is State.PINNED:
            return False
        if item.runs and found == item.manifest:  # --from, or drift that the plan saw
            return True
        return self.recipe.on_drift is OnDrift.RERUN and bool(drift(self.store, item.job, found))

    def end(self, state: str, error: str | None = None) -> None:
        """Close the record and the MLflow run."""
        self.record.state, self.record.error = state, error
        self.record.ended = datetime.now(UTC).isoformat(timespec="seconds")
        self.record.mlflow = self.mlflow.close(state)
        try:
            self.save()
        except OSError:
            if error is None:
                raise


@contextlib.contextmanager
def watched_by(display: Display) -> Iterator[None]:
    """Show the runs that are opened inside the block on `display`."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)


@contextlib.contextmanager
def planned_as(plan: Plan) -> Iterator[None]:
    """Runs of the same recipe that are opened inside the block take `plan` over and work out none of their own."""
    token = _plan.set(plan)
    try:
        yield
    finally:
        _plan.reset(token)


@contextlib.contextmanager
def open_session(recipe: Recipe, *, restart_from: str | None = None) -> Iterator[Session]:
    """Begin a run of `recipe`; its record is closed however the block is left."""
    settings = Settings()
    gather_sample_text(recipe, log.info)
    session = Session(recipe, settings, open_store(settings), _display.get(), restart_from)
    token = _current.set(session)
    try:
        with tracing.span("run", {"deepmill.run_id": session.run_id, "deepmill.recipe": recipe.name}):
            yield session
    except DeepmillError as error:
        session.end("failed", str(error))
        raise
    except Exception as error:
        session.end("failed", f"{type(error).__name__}: {error}")
        raise
    except BaseException:  # Ctrl-C, SIGTERM, or Prefect's cancellation
        session.end("cancelled", STOPPED)
        raise
    else:
        session.end("completed")
    finally:
        tracing.flush()
        _current.reset(token)


def active_session() -> Session:
    """The run that the calling task is part of."""
    session = _current.get()
    assert session is not None, "stages run inside a flow"
    return session


@contextlib.contextmanager
def current_session(recipe: Recipe) -> Iterator[Session]:
    """The run that this flow is part of, or a run of its own when it was started by itself."""
    session = _current.get()
    if session is not None and session.recipe == recipe:
        yield session
        return
    with open_session(recipe) as session:
        yield session


def _revision() -> tuple[str, bool]:
    """Git revision of the code and whether it has been edited; empty outside a checkout."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except FileNotFoundError:
        return "", False
