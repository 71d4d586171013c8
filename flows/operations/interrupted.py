"""Says of runs whose process was killed what became of them: in their record, in Prefect and in MLflow.

A process that is killed says nothing any more. Without this Prefect calls its run running until heartbeats have been
missing for minutes, and holds back what waits behind it; MLflow calls it running for ever.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flows.run.record import RUN_ID, read_record, write_record
from infra.open_store import open_store
from infra.settings import Settings

__all__ = ["reap"]

LATEST = 200
"""Runs that are looked at; of older ones nobody waits for news."""
MESSAGE = "its process was killed; start it again and it resumes"


def reap(settings: Settings) -> list[str]:
    """Close every run of this machine whose process is gone although it is said to run; their names.

    Raises:
        UserError: the store or MLflow cannot be reached.
    """
    store = open_store(settings)
    reaped = []
    for name in store.runs()[-LATEST:]:
        record = read_record(store, name)
        if record is None or record.state_now == record.state:
            continue
        _close_in_prefect(record.prefect.get("flow_run_id"))
        _close_in_mlflow(settings, name)
        record.state, record.error = "interrupted", MESSAGE
        write_record(store, record)
        reaped.append(name)
    return reaped


def _close_in_prefect(flow_run: str | None) -> None:
    """Crashed, or cancelled where that was being done; nothing where the run has ended or this server knows none."""
    if flow_run is None:
        return
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Cancelled, Crashed

    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(flow_run)).state
        except ObjectNotFound:
            return
        if state is not None and not state.is_final():
            ended: Any = Cancelled() if state.is_cancelling() else Crashed(message=MESSAGE)
            client.set_flow_run_state(flow_run, ended, force=True)


def _close_in_mlflow(settings: Settings, name: str) -> None:
    """The run and those of its stages, as killed."""
    from infra.tracking import registry_client

    client = registry_client(settings)
    experiment = client.get_experiment_by_name(settings.experiment)
    if experiment is None:
        return
    where = [experiment.experiment_id]
    running = "attributes.status = 'RUNNING' and "
    for run in client.search_runs(where, f"{running}tags.`{RUN_ID}` = '{name}'"):
        for stage in client.search_runs(where, f"{running}tags.mlflow.parentRunId = '{run.info.run_id}'"):
            client.set_terminated(stage.info.run_id, "KILLED")
        client.set_terminated(run.info.run_id, "KILLED")
