"""The Prefect flows: one per family, and `mill`, which chains them. Each stage is a task.

No ``from __future__ import annotations`` here: Prefect reads the annotations of flows to validate parameters and to
draw the form. Stages run from the flow's own thread, one after the other, in a supervised process each.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, create_table_artifact
from prefect.artifacts import update_progress_artifact as update_progress
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.states import Completed
from pydantic import Field

from flows.browser.export import follow_champion
from flows.recipe.changes import Changes, laid_over
from flows.recipe.plan import State
from flows.recipe.recipe import Recipe, load_recipe
from flows.recipe.stages import ACTIONS, Family, StageName
from flows.registry.release import promote_version, register_version
from flows.run.flow_parameters import shared_schemas
from flows.run.links import link_run, links_of, links_text
from flows.run.notifications import Topic, notify
from flows.run.remote_pools import remote_pool, run_in_remote_pool
from flows.run.session import Session, active_session, current_session, open_session
from infra.errors import DeepmillError, TransientError
from infra.events import Advanced, Begun, Event, Noted, Stuck, Waiting
from infra.json_objects import flatten

__all__ = ["corpus", "finetune", "mill", "pretrain", "release"]

PROGRESS_SECONDS = 2.0
SAMPLE = load_recipe("sample")
RestartFrom = Annotated[
    StageName | None,
    Field(description="Make this stage, and all after it, again; nothing is made again where it is left empty."),
]
NONE = Changes()


def artifact_key(stage: str, what: str) -> str:
    """Of what Prefect shows of a stage; it takes no underscore, which some stages have in their names."""
    return f"{stage.replace('_', '-')}-{what}"


class _PrefectListener:
    """Shows a stage's events in the Prefect UI: notes and phases as logs, progress as an artifact."""

    def __init__(self, name: str) -> None:
        self._name, self._logger = name, get_run_logger()
        self._artifact: Any = None
        self._done = self._total = 0.0
        self._shown = time.monotonic()

    def __call__(self, event: Event) -> None:
        match event:
            case Begun():
                self._done, self._total = event.done, event.total
                self._logger.info("%s: %s %s", event.phase, event.total or "", event.unit)
            case Advanced():
                self._done += event.amount
                if self._total and time.monotonic() - self._shown > PROGRESS_SECONDS:
                    self._show(min(100.0, 100 * self._done / self._total))
            case Noted():
                self._logger.info("%s", event.text)
            case Stuck():
                text = f"{self._name} has reported no progress for {event.minutes:.3g} minutes"
                self._logger.warning(text)
                notify(Topic.STUCK, text, {"run": active_session().run_id, "stage": self._name}, self._logger.warning)
            case Waiting():
                self._logger.info("waiting for %s, which makes the same artifact", event.holder)

    def _show(self, percent: float) -> None:
        self._shown = time.monotonic()
        if self._artifact is None:
            self._artifact = create_progress_artifact(percent, key=artifact_key(self._name, "progress"))
        else:
            update_progress(self._artifact, percent)

    def finish(self) -> None:
        if self._artifact is not None:
            self._show(100.0)


def _is_transient(task: Any, task_run: Any, state: Any) -> bool:
    """Whether trying again can mend it: a lost connection, say, but never a bad recipe or a broken stage."""
    error = state.data if isinstance(state.data, BaseException) else getattr(state.data, "exception", None)
    if isinstance(error, DeepmillError):
        return isinstance(error, TransientError)
    return isinstance(error, ConnectionError | TimeoutError)


@task(
    name="stage",
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_condition_fn=_is_transient,
)
def run_stage(name: str, identity: str) -> Any:
    """Make or find one artifact."""
    session = active_session()
    listener = _PrefectListener(name)
    manifest, state = session.run_stage(name, listener)
    listener.finish()
    row = {"identity": identity, "seconds": manifest.seconds, "bytes": manifest.size}
    numbers = {key: value for key, value in flatten(manifest.metrics).items() if isinstance(value, int | float | str)}
    create_table_artifact(
        [{"metric": key, "value": value} for key, value in (row | numbers).items()],
        key=artifact_key(name, "metrics"),
        description=f"`{name}` → {session.store.place(name, identity)}",
    )
    if state is State.RUN:
        return Completed(message=f"made in {manifest.seconds} s", name="Completed")
    return Completed(message=session.plan[name].why, name="Cached")


@task(name="action", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def run_action(name: str) -> Any:
    """Register the exported model, or move the alias to it."""
    session = active_session()
    outcome = register_version(session) if name == "register" else promote_version(session)
    if name == "promote":
        released = session.record.release
        gates = [gate.model_dump() for gate in released.gates]
        create_table_artifact(gates, key="gates", description="Gates of the promotion")
        if outcome.changed and released.promoted:
            facts = {"model": released.model, "version": released.version, "run": session.run_id}
            notify(Topic.PROMOTED, outcome.message, facts | links_of(session.record), get_run_logger().warning)
        if released.promoted and (folder := session.recipe.registry.browser):
            session.display.note(follow_champion(session.settings, released.model, released.version, Path(folder)))
    return Completed(message=outcome.message, name="Completed" if outcome.changed else "Cached")


def _run(stage_task: Any, *arguments: str) -> None:
    """Call a task here and now. Prefect types every task as perhaps asynchronous; these are not."""
    stage_task(*arguments)


def _run_family(recipe: Recipe, family: Family) -> None:
    with current_session(recipe) as session, _linked(session):
        for item in session.plan.values():
            if item.stage.family is family:
                _run(run_stage, item.stage.name, item.job.identity)
        if family is Family.CORPUS and session.plan["extract"].job.config["removed"]:
            from flows.registry.removal_audit import audit_run  # with datatrove, which takes its time

            audit_run(session)
        if family is Family.RELEASE and recipe.has("export"):
            for action in ACTIONS:
                _run(run_action, action)


@contextlib.contextmanager
def _linked(session: Session) -> Iterator[None]:
    """Tie the flow run, the record and the MLflow run to each other, now and, with what was made, at the end."""
    context = FlowRunContext.get()
    if not context or not context.flow_run or session.record.prefect:
        yield  # the flow that this one is part of did it
        return
    session.record.prefect = {"flow_run_id": str(context.flow_run.id)}
    session.save()
    session.mlflow.describe(lambda: links_text(session.record))
    shown = link_run(session.record)
    try:
        yield
    finally:
        session.record.mlflow = session.mlflow.ids
        session.mlflow.describe(lambda: links_text(session.record))
        if session.mlflow.trouble:
            get_run_logger().warning("%s", session.mlflow.trouble)
        with contextlib.suppress(Exception):  # the server may be what is gone; the run matters more than its links
            link_run(session.record, shown)


with shared_schemas():

    @flow(name="corpus", persist_result=False)
    def corpus(recipe: Recipe = SAMPLE, changes: Changes = NONE) -> None:
        """Raw web, wiki and book text to token shards."""
        _run_family(laid_over(recipe, changes), Family.CORPUS)

    @flow(name="pretrain", persist_result=False)
    def pretrain(recipe: Recipe = SAMPLE, changes: Changes = NONE) -> None:
        """Token shards to a base model."""
        _run_family(laid_over(recipe, changes), Family.PRETRAIN)

    @flow(name="finetune", persist_result=False)
    def finetune(recipe: Recipe = SAMPLE, changes: Changes = NONE) -> None:
        """Chains of thought, reinforcement learning, evaluation."""
        _run_family(laid_over(recipe, changes), Family.FINETUNE)

    @flow(name="release", persist_result=False)
    def release(recipe: Recipe = SAMPLE, changes: Changes = NONE) -> None:
        """Quantize, export, register, promote."""
        _run_family(laid_over(recipe, changes), Family.RELEASE)


FAMILIES = {Family.CORPUS: corpus, Family.PRETRAIN: pretrain, Family.FINETUNE: finetune, Family.RELEASE: release}


@flow(name="mill", persist_result=False)
def mill(recipe: Recipe = SAMPLE, restart_from: RestartFrom = None, changes: Changes = NONE) -> str:
    """Raw text to a promoted, quantized, reasoning model. Returns the identifier of the run."""
    recipe = laid_over(recipe, changes)
    with open_session(recipe, restart_from=restart_from and str(restart_from)) as session, _linked(session):
        for family, family_flow in FAMILIES.items():
            if pool := remote_pool(recipe, family):
                run_in_remote_pool(session, recipe, family, pool)
            else:
                family_flow(recipe)
        return session.run_id
