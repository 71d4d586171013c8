"""The work pools: where a worker takes flow runs from, and what whoever starts one may say about its process.

Which command a worker starts, where, and with which environment is fixed by the pool. Prefect's own template leaves all
three to whoever starts a run, which makes a form in a browser a shell.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.recipe.anchor import anchored
from flows.recipe.recipe import Recipe
from infra.json_objects import JsonObject

__all__ = ["RUNS", "UPKEEP", "closed_template", "make_pools"]

RUNS, UPKEEP = "runs", "upkeep"
"""Queues of every pool."""
COMMAND = "python -m prefect.engine"
"""What a worker starts for a flow run, with its own interpreter (the worker's PATH says which). Left to itself it would
start two more processes around it, to look for a project to install; they double the start and the end of a run."""
CLOSED = ("command", "env", "working_dir")
PAGE = 100


def make_pools(pools: Sequence[str], runs_at_once: int) -> None:
    """Make the pools that are missing, and close those that an older version or another hand left open.

    Paths in a recipe are relative to the folder of this process, where `up` was started.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    folder = Path.cwd()
    with get_client(sync_client=True) as client:
        for pool in pools:
            try:
                found = client.read_work_pool(pool)
            except ObjectNotFound:
                template = closed_template(ProcessWorker.get_default_base_job_template(), folder)
                client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
            else:
                template = closed_template(found.base_job_template, folder)
                if found.type == "process" and template != found.base_job_template:
                    client.update_work_pool(pool, WorkPoolUpdate(base_job_template=template))
                    _close_deployments(client, pool)
            _make_queue(client, pool, RUNS, runs_at_once)
            _make_queue(client, pool, UPKEEP, None)


def closed_template(template: JsonObject, folder: Path) -> JsonObject:
    """`template` of a pool of processes with command and folder fixed, and with no word of the environment.

    No environment at all: Prefect merges one that a run brings into one that the template has, offered or not. A
    variable that is not offered is refused by the server when a run of a deployment is started, and ignored otherwise.
    """
    closed = copy.deepcopy(template)
    variables, job = closed.setdefault("variables", {}), closed.setdefault("job_configuration", {})
    for name in CLOSED:
        variables.get("properties", {}).pop(name, None)
    if "required" in variables:
        variables["required"] = [name for name in variables["required"] if name not in CLOSED]
    variables["additionalProperties"] = False
    job.pop("env", None)
    return closed | {"job_configuration": job | {"command": COMMAND, "working_dir": str(folder)}}


def _close_deployments(client: Any, pool: str) -> None:
    """Take what the pool does not offer any more from deployments that bring it, for none of their runs would start."""
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName

    where = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
    found: list[Any] = []
    while page := client.read_deployments(work_pool_filter=where, limit=PAGE, offset=len(found)):
        found += page
    for deployment in found:
        brought = deployment.job_variables or {}
        kept = {name: value for name, value in brought.items() if name.partition(".")[0] not in CLOSED}
        if kept != brought:
            parameters = _anchored_parameters(deployment.parameters, brought.get("working_dir"))
            client.update_deployment(deployment.id, DeploymentUpdate(job_variables=kept, parameters=parameters))


def _anchored_parameters(parameters: JsonObject, folder: str | None) -> JsonObject:
    """The parameters with the recipe's paths as they were meant when runs began in `folder`."""
    if not folder or "recipe" not in parameters:
        return parameters
    try:
        recipe = Recipe.model_validate(parameters["recipe"])
    except ValueError:  # of another version; its run says so
        return parameters
    return parameters | {"recipe": anchored(recipe, Path(folder)).model_dump(mode="json")}


def _make_queue(client: Any, pool: str, name: str, limit: int | None) -> None:
    import httpx

    try:
        client._client.post(f"/work_pools/{pool}/queues", json={"name": name, "concurrency_limit": limit})
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.CONFLICT:  # it is there, with what somebody made of it in the UI
            raise
