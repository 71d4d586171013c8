"""Addresses that lead from a run in one UI to the same run in the others.

Prefect shows them as an artifact of the flow run, MLflow as the description of its run.
"""

from __future__ import annotations

import os
from typing import cast
from uuid import UUID

from flows.run.record import RunRecord

__all__ = ["link_run", "links_of", "links_text"]


def links_of(record: RunRecord) -> dict[str, str]:
    """Title to address, of every place that shows the run and is served; empty outside of `deepmill up`."""
    found = {}
    pages, prefect = os.environ.get("DEEPMILL_PAGES_URL", ""), os.environ.get("PREFECT_UI_URL", "")
    tracking = os.environ.get("DEEPMILL_TRACKING_URI", "")
    ids, flow = record.mlflow, record.prefect
    if prefect and flow.get("flow_run_id"):
        found["Prefect run"] = f"{prefect}/runs/flow-run/{flow['flow_run_id']}"
    if tracking.startswith("http") and ids.get("run_id"):
        found["MLflow run"] = f"{tracking}/#/experiments/{ids['experiment_id']}/runs/{ids['run_id']}"
    if pages:
        found["Report"] = f"{pages}/runs/{record.run_id}"
    return found


def links_text(record: RunRecord) -> str:
    """The links of a run and of its artifacts, as Markdown."""
    lines = [f"**Run** `{record.run_id}`", ""]
    lines += [f"- [{title}]({address})" for title, address in links_of(record).items()]
    pages = os.environ.get("DEEPMILL_PAGES_URL", "")
    if pages and record.stages:
        lines += ["", "| stage | state | seconds | artifact |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {entry.state} | {entry.seconds} | "
            f"[{entry.identity}]({pages}/artifacts/{name}/{entry.identity}) |"
            for name, entry in record.stages.items()
        ]
    if not links_of(record):
        lines.append(f"`deepmill report {record.run_id}`")
    return "\n".join(lines)


def link_run(record: RunRecord, shown: UUID | None = None) -> UUID | None:
    """Show the links of a run on the flow run that is going on, in the artifact `shown` where it is there already."""
    from prefect.artifacts import create_markdown_artifact
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactUpdate

    if shown is None:
        # Prefect types it as perhaps asynchronous; in a synchronous flow it is not
        return cast(
            "UUID", create_markdown_artifact(links_text(record), key="run", description="Where else it is shown")
        )
    with get_client(sync_client=True) as client:
        client.update_artifact(shown, ArtifactUpdate(data=links_text(record)))
    return shown
