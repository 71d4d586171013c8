"""The Prefect flows `study` and `ladder`: each trial is a run of `mill` of its own; at the end they are compared.

No ``from __future__ import annotations`` here: Prefect reads the annotations of flows.
"""

import contextlib
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.mill import mill
from flows.recipe.plan import make_plan
from flows.recipe.recipe import Recipe
from flows.study.ladder import Ladder, LadderTrial, Measured, measured_of, recipe_of, wanted
from flows.study.ladder_report import write_ladder
from flows.study.report import compare, comparison_rows, write_comparison
from flows.study.study import Study, trials
from infra.errors import UserError
from infra.open_store import open_store
from infra.settings import Settings
from infra.store import Store
from model.facts.training import PretrainMetrics

__all__ = ["ladder", "study"]


@flow(name="study", persist_result=False)
def study(config: Study) -> str:
    """Run every arm with every seed and write the page that compares them; returns its path."""
    store = open_store(Settings())
    found = trials(config)
    run_ids = {(trial.arm, trial.seed): str(mill(trial.recipe)) for trial in found}
    comparison = compare(config, found, run_ids, store)
    rows = comparison_rows(comparison, config.measured[0])
    create_table_artifact(rows, key="study", description=config.description or config.name)
    return str(write_comparison(comparison, Path(store.local) / "studies" / f"{config.name}.html"))


@flow(name="ladder", persist_result=False)
def ladder(config: Ladder) -> str:
    """Run every trial that is wanted and not there yet, until none is; returns the path of the page, which is written
    anew whenever there is more to show."""
    store = open_store(Settings())
    page = Path(store.local) / "studies" / f"{config.name}.html"
    results: dict[LadderTrial, Measured] = {}
    while trials := wanted(config, results):
        for trial in trials:
            recipe = recipe_of(config, trial)
            results[trial] = _made(recipe, store) or _make(recipe, store)
            if trial.rung == len(config.rungs) - 1:
                with contextlib.suppress(UserError):  # not enough of it yet
                    write_ladder(config, results, page)
    return str(write_ladder(config, results, page))


def _made(recipe: Recipe, store: Store) -> Measured | None:
    """What the trial ended with, where its artifact is there: nothing is started for it."""
    pretrained = next(each for each in make_plan(recipe, store).stages if each.stage.name == "pretrain")
    if pretrained.manifest is None or pretrained.runs:
        return None
    return measured_of(PretrainMetrics.read(pretrained.manifest.metrics))


def _make(recipe: Recipe, store: Store) -> Measured:
    mill(recipe)
    found = _made(recipe, store)
    assert found is not None, "mill has made it"
    return found
