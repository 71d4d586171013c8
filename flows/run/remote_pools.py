"""Runs one family of stages on the workers of another pool: data on CPU nodes, training on GPU nodes.

The family's flow becomes a flow run of its own there, below this one in the Prefect UI. Stages meet in the store, which
both machines reach. Cancelling this run cancels that one.
"""

import os
import time
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from flows.recipe.recipe import Recipe
from flows.recipe.stages import Family
from flows.run.record import read_record
from flows.run.session import Session
from infra.errors import DeepmillError, UserError

__all__ = ["remote_pool", "run_in_remote_pool"]

POLL_SECONDS = 2.0


class ElsewhereError(DeepmillError):
    """The part of a run that another pool's worker did has failed; its flow run tells more."""


def remote_pool(recipe: Recipe, family: Family) -> str:
    """The pool that the recipe sends a family to; empty where this process is on it, or none is named."""
    pool = recipe.execution.pools.get(family, "")
    return "" if pool == os.environ.get("DEEPMILL_POOL", "") else pool


def run_in_remote_pool(session: Session, recipe: Recipe, family: Family, pool: str) -> None:
    """Run the flow of `family` on `pool` and wait; what it made joins the record of `session`.

    Raises:
        UserError: nothing is deployed to that pool.
        ElsewhereError: it failed, crashed or was cancelled there.
    """
    try:
        started: Any = run_deployment(
            f"{family}/on-{pool}", parameters={"recipe": recipe.model_dump(mode="json")}, timeout=0
        )
    except ObjectNotFound:
        raise UserError(
            f"execution.pools.{family}: {pool} has no deployments; name it in DEEPMILL_POOLS or DEEPMILL_DEPLOY_POOLS "
            "of deepmill up, or name another pool"
        ) from None
    state = _wait(started.id)
    _adopt(session, started.id)
    if not state.is_completed():
        raise ElsewhereError(f"{family} on {pool}: {state.name}: {state.message or 'see its flow run'}")


def _wait(run: UUID) -> Any:
    with get_client(sync_client=True) as client:
        try:
            while True:
                state = client.read_flow_run(run).state
                if state is not None and state.is_final():
                    return state
                time.sleep(POLL_SECONDS)
        except BaseException:
            client.set_flow_run_state(run, Cancelling())
            raise


def _adopt(session: Session, run: UUID) -> None:
    """Copy what the record of the other run says of its stages and its release."""
    for name in reversed(session.store.runs()):
        record = read_record(session.store, name)
        if record and record.prefect.get("flow_run_id") == str(run):
            session.record.stages |= record.stages
            if record.release.model:
                session.record.release = record.release
            session.save()
            return
