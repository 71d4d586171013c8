"""From a model or a run to what can be said of its training data."""

from __future__ import annotations

from pathlib import Path

from flows.recipe.recipe import load_recipe
from flows.registry.names import tags_of
from flows.report.disclosure import disclosure
from flows.report.disclosure_pages import write_disclosure
from flows.run.record import RUN_ID, RunRecord, StageRecord, find_record
from flows.run.run_view import Run
from infra.errors import UserError
from infra.open_store import open_store
from infra.settings import Settings
from infra.store import Store

__all__ = ["disclose", "whole"]


def disclose(settings: Settings, name: str, recipe: str = "", to: Path | None = None) -> list[Path]:
    """Write what can be said of the training data behind `name`: a run, MODEL@ALIAS or MODEL/VERSION.

    Args:
        recipe: a preset or file whose `disclosure` and licences are taken instead of those of the run's own recipe.
        to: the folder; beside the run's record when left out.

    Raises:
        UserError: there is no such model, run or recipe, or the store has nothing of its corpus.
    """
    store = open_store(settings, writes=to is None)
    record = _record(settings, store, name)
    stated = load_recipe(recipe).model_dump(mode="json") if recipe else None
    folder = to or store.local / "runs" / f"{record.run_id}.disclosure"
    return write_disclosure(disclosure(Run(whole(record), store), stated), folder)


def whole(record: RunRecord) -> RunRecord:
    """A record with all that its run was planned to be made of: a flow of one family alone made the last part."""
    planned = {name: StageRecord(identity=identity) for name, identity in record.plan.items()}
    return record.model_copy(update={"stages": planned | record.stages})


def _record(settings: Settings, store: Store, name: str) -> RunRecord:
    if not name or any(run.startswith(name) for run in store.runs()):
        return find_record(store, name)
    run_id = tags_of(settings, name).get(RUN_ID)
    if run_id not in store.runs():
        raise UserError(f"{name}: its run {run_id or '(not recorded)'} is not in {store.address}; is --root its store?")
    return find_record(store, run_id)
