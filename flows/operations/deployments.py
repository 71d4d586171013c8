"""Deploys every flow on the Prefect server of the settings: ``python -m flows.operations.deployments``.

What somebody changed in the UI stays: a deployment that is there already keeps its schedules and its pause. Heavy runs
go to the queue `runs` of a pool, which takes a few at a time; upkeep never waits behind them.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from functools import partial

from flows.operations.automations import make_automations
from flows.operations.pools import RUNS, UPKEEP, make_pools
from flows.recipe.recipe import Recipe, load_recipe
from flows.recipe.stages import Family
from flows.run.server_settings import ServerSettings
from infra.errors import DeepmillError, UserError, first_line
from infra.json_objects import JsonObject

__all__ = ["Deployment", "check_schedule", "deploy", "plan_deployments"]

AUDIT_CRON = "*/10 * * * *"


@dataclass(frozen=True)
class Deployment:
    """One deployment: which flow, with what, when and where."""

    flow: str
    """``module:function``"""
    name: str
    description: str
    parameters: JsonObject = field(default_factory=dict)
    cron: str = ""
    """When it starts by itself; empty for what people start. No schedule that is switched off: it looks like one."""
    reschedules: bool = False
    """Whether `cron` takes the place of the schedules that a deployment has; else what people made of them stays."""
    timezone: str = "UTC"
    pool: str = "default"
    queue: str = RUNS
    at_once: int | None = 1
    """Runs of this deployment at the same time; the others wait."""
    tags: tuple[str, ...] = ()


def recipe_deployments(recipe: Recipe, servers: ServerSettings, *, first: bool) -> list[Deployment]:
    """The flows of one recipe: the whole mill and, of the first recipe, each family.

    The first mill runs nightly; to the others people add a schedule in the UI.
    """
    pool = servers.deployed_pools[0]
    parameters = {"recipe": recipe.model_dump(mode="json")}
    deployment = partial(Deployment, parameters=parameters, timezone=servers.timezone, pool=pool)
    families = {
        "corpus": "raw text to token shards",
        "pretrain": "token shards to a base model",
        "finetune": "a base model to a reasoning one",
        "release": "quantize, export, register, promote",
    }
    found = [
        deployment(
            "flows.mill:mill",
            recipe.name,
            f"{recipe.description or recipe.name}. The whole path; what is cached is not built again.",
            cron=servers.cron if first else "",
            tags=("recipe",),
        )
    ]
    if not first:
        return found
    found += [
        deployment(f"flows.mill:{family}", recipe.name, f"{recipe.name}: {text}.") for family, text in families.items()
    ]
    return found


def plan_deployments(servers: ServerSettings) -> list[Deployment]:
    """Everything that `deepmill up` deploys.

    Raises:
        UserError: one of the recipes of the settings cannot be read.
    """
    pool = servers.deployed_pools[0]
    found = []
    for number, source in enumerate(servers.recipe_names):
        found += recipe_deployments(load_recipe(source), servers, first=number == 0)
    if len(servers.deployed_pools) > 1:  # `execution.pools` of a recipe sends a family to one of them
        found += [
            Deployment(
                f"flows.mill:{family}", f"on-{pool}", f"Part of a run of the mill, on {pool}.", pool=pool, at_once=None
            )
            for family in Family
            for pool in servers.deployed_pools
        ]
    upkeep = partial(Deployment, pool=pool, queue=UPKEEP, tags=("upkeep",), timezone=servers.timezone)
    found += [
        upkeep("flows.operations.flows:rerun", "by-hand", "Make a recorded run again and compare the bytes."),
        upkeep("flows.registry.promotion:promote", "by-hand", "Make a version champion if its gates pass."),
        upkeep("flows.registry.promotion:rollback", "by-hand", "Give the alias back to the champion before."),
        upkeep(
            "flows.registry.promotion:audit_champion",
            "every-model",
            "Judge what somebody made champion in MLflow itself; undo it if its gates do not pass.",
            cron=AUDIT_CRON,
        ),
        upkeep(
            "flows.operations.flows:retention",
            "weekly",
            "Show what no kept run and no registered model needs; deletes only when told to.",
            cron="0 5 * * 0",
        ),
        upkeep(
            "flows.operations.flows:heartbeat",
            "hourly",
            "Can the mill run: store, MLflow, disk.",
            cron="17 * * * *",
        ),
        upkeep(
            "flows.operations.flows:tell_failure",
            "failures",
            "Sends the notifications of failed runs.",
            at_once=None,
        ),
    ]
    return found


RENAMED = {"vet-champion/every-model": "audit-champion/every-model"}
"""Deployments of earlier versions, and what they are called now."""


def deploy_all(servers: ServerSettings) -> list[str]:
    """Make the pools, every deployment and the automations; the names of what was deployed."""
    make_pools(servers.deployed_pools, servers.runs_at_once)
    names = [deploy(item) for item in plan_deployments(servers)]
    for earlier, name in RENAMED.items():
        replace_deployment(earlier, name)
    make_automations()
    return names


def replace_deployment(earlier: str, name: str) -> bool:
    """Take away a deployment that has another name now, which keeps its schedules and its pause; whether it was there.

    Its runs stay where they are.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            old = client.read_deployment_by_name(earlier)
        except ObjectNotFound:
            return False
        new = client.read_deployment_by_name(name)
        for schedule in new.schedules:
            client.delete_deployment_schedule(new.id, schedule.id)
        client.create_deployment_schedules(new.id, [(each.schedule, each.active) for each in old.schedules])
        if old.paused:
            client.pause_deployment(new.id)
        client.delete_deployment(old.id)
    return True


def check_schedule(cron: str, timezone: str) -> None:
    """Refuse a schedule that Prefect would not take.

    Raises:
        UserError: `cron` or `timezone` is none.
    """
    from zoneinfo import ZoneInfo

    from prefect.schedules import Cron

    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise UserError(f"DEEPMILL_TIMEZONE={timezone}: no time zone; name one as Europe/Berlin, or UTC") from None
    try:
        Cron(cron)
    except ValueError:
        raise UserError(f"{cron}: no schedule; write minute hour day month weekday, as 0 2 * * *") from None


def deploy(item: Deployment) -> str:
    """Make or renew one deployment; its full name.

    Raises:
        UserError: its schedule is none, or Prefect does not take it.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import DeploymentApplyError
    from prefect.exceptions import ObjectNotFound
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    module, function = item.flow.split(":")
    flow = getattr(importlib.import_module(module), function)
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(f"{flow.name}/{item.name}")
            fresh = False
        except ObjectNotFound:
            fresh = True
    limit = item.at_once and ConcurrencyLimitConfig(
        limit=item.at_once, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
    )
    if item.cron:
        check_schedule(item.cron, item.timezone)
    scheduled = bool(item.cron) and (fresh or item.reschedules)
    deployment = flow.to_deployment(
        name=item.name,
        parameters=item.parameters,
        description=item.description,
        tags=list(item.tags),
        concurrency_limit=limit,
        work_pool_name=item.pool,
        work_queue_name=item.queue,
        entrypoint_type=EntrypointType.MODULE_PATH,
        schedule=Cron(item.cron, timezone=item.timezone) if scheduled else None,
    )
    if not fresh:  # Prefect leaves what is not set as people left it; an empty list would delete their schedules
        deployment.model_fields_set.difference_update({"paused"} if scheduled else {"paused", "schedules"})
    # The form shows parameters by their position; the recipe is sixty screens long.
    properties = deployment._parameter_openapi_schema.properties
    for place, parameter in enumerate(("changes", "restart_from", "recipe")):
        if parameter in properties:
            properties[parameter]["position"] = place
    try:
        deployment.apply()
    except DeploymentApplyError as error:
        raise UserError(f"{flow.name}/{item.name}: Prefect does not take it: {first_line(error)}") from None
    return f"{flow.name}/{item.name}"


if __name__ == "__main__":
    try:
        print("\n".join(deploy_all(ServerSettings())))
    except DeepmillError as problem:
        sys.exit(str(problem))
