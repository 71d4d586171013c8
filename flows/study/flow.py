"""The Prefect flow `study`: each trial is a run of `mill` of its own; at the end they are compared.

No ``from __future__ import annotations`` here: Prefect reads the annotations of flows.
"""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.mill import mill
from flows.study.report import compare, comparison_rows, write_comparison
from flows.study.study import Study, trials
from infra.open_store import open_store
from infra.settings import Settings

__all__ = ["study"]


@flow(name="study", persist_result=False)
def study(config: Study) -> str:
    """Run every arm with every seed and write the page that compares them; returns its path."""
    store = open_store(Settings())
    found = trials(config)
    run_ids = {(trial.arm, trial.seed): str(mill(trial.recipe)) for trial in found}
    comparison = compare(config, found, run_ids, store)
    create_table_artifact(comparison_rows(comparison), key="study", description=config.description or config.name)
    return str(write_comparison(comparison, Path(store.local) / "studies" / f"{config.name}.html"))
