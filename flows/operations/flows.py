"""Flows that look after the mill: rerun, retention, the heartbeat, and what tells people that a run failed.

No ``from __future__ import annotations`` here: Prefect reads the annotations to draw the form.
"""

import os
import shutil
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.operations.retention import apply_gc, plan_gc
from flows.recipe.stages import StageName
from flows.run.diff import differences_today
from flows.run.links import link_run
from flows.run.notifications import Topic, notify
from flows.run.record import find_record
from flows.run.rerun import rerun_stages
from infra.errors import UserError
from infra.open_store import open_store
from infra.settings import Settings
from infra.units import size

__all__ = ["heartbeat", "rerun", "retention", "tell_failure"]

LEAST_FREE = 1 << 30
"""Bytes free on the store's disk below which the heartbeat fails."""


@flow(name="rerun", persist_result=False)
def rerun(
    run_id: Annotated[str, Field(description="A run, or the beginning of its name; empty means the latest.")] = "",
    stage: Annotated[StageName | None, Field(description="Only this stage; empty means all of them.")] = None,
) -> State:
    """Make a recorded run's artifacts again, from its record, and say whether the bytes agree. Changes nothing."""
    logger = get_run_logger()
    store = open_store(Settings())
    record = find_record(store, run_id)
    link_run(record)
    today = [f"{item.section} {item.key}: {item.before} → {item.after}" for item in differences_today(store, record)]
    for line in today:
        logger.info("differs today: %s", line)
    rows = []
    for result in rerun_stages(store, record, str(stage) if stage else None):
        logger.info("%s: %s in %.1f s; %s", result.stage, result.verdict, result.seconds, result.text)
        rows.append({"stage": result.stage, "bytes": result.verdict, "seconds": result.seconds, "remark": result.text})
    told = "; ".join(today) or "nothing differs today"
    create_table_artifact(rows, key="rerun", description=f"Rerun of `{record.run_id}`: {told}")
    different = [str(row["stage"]) for row in rows if row["bytes"] != "same bytes"]
    if different:
        return Failed(message=f"other bytes: {', '.join(different)}")
    return Completed(message=f"{len(rows)} stages, the same bytes")


@flow(name="retention", persist_result=False)
def retention(
    keep_runs: Annotated[int, Field(ge=1, description="Keep what the latest runs need: how many.")] = 20,
    keep_days: Annotated[float, Field(ge=0, description="Keep what is younger than so many days.")] = 14,
    delete: Annotated[bool, Field(description="Delete what it shows; without this it only shows.")] = False,
) -> State:
    """Show, or delete, the artifacts that no kept run and no registered model needs."""
    settings = Settings()
    store = open_store(settings)
    plan = plan_gc(store, settings, keep_runs, keep_days)
    create_table_artifact(
        [{"what": item.name, "bytes": item.bytes, "made": item.made} for item in plan.items],
        key="retention",
        description=f"{len(plan.items)} of {plan.looked_at}, {size(plan.bytes)}",
    )
    if not delete:
        return Completed(message=f"would delete {len(plan.items)} of {plan.looked_at}, {size(plan.bytes)}")
    freed = apply_gc(store, plan)
    return Completed(message=f"deleted {len(plan.items)} of {plan.looked_at}, {size(freed)}")


@flow(name="heartbeat", persist_result=False)
def heartbeat() -> State:
    """Look whether the mill could run now: the store takes a file, MLflow answers, the disk has room."""
    from infra.tracking import registry_client

    settings = Settings()
    store = open_store(settings)
    free = shutil.disk_usage(store.local).free
    if free < LEAST_FREE:
        raise UserError(f"{store.local}: only {size(free)} free; make room (deepmill gc shows what is not needed)")
    store.write_note("heartbeat", {"at": datetime.now(UTC).isoformat(timespec="seconds"), "pid": os.getpid()})
    registry_client(settings).search_registered_models(max_results=1)
    return Completed(message=f"{size(free)} free")


@flow(name="tell", persist_result=False)
def tell_failure(flow_run_name: str = "", flow_run_id: str = "", state: str = "", message: str = "") -> None:
    """Send a notification about a flow run that failed; started by the automation `deepmill: tell of failures`."""
    logger = get_run_logger()
    with get_client(sync_client=True) as client:
        if flow_run_id and client.read_flow_run(UUID(flow_run_id)).parent_task_run_id:
            return  # the flow that it is part of fails as well, and tells
    address = f"{os.environ.get('PREFECT_UI_URL', '')}/runs/flow-run/{flow_run_id}"
    facts = {"flow_run": flow_run_name, "state": state, "address": address}
    taken = notify(Topic.FAILED, f"{flow_run_name}: {state}: {message}".strip(": "), facts, logger.warning)
    logger.info("told through %d channels", taken)
