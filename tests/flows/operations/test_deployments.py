"""Deployments on a Prefect server: what an earlier version called otherwise is taken over, as somebody left it."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.operations.deployments import Deployment, deploy, replace_deployment
from flows.operations.pools import make_pools


@flow(name="once-called")
def once_called() -> None:
    """Does nothing."""


@flow(name="now-called")
def now_called() -> None:
    """Does nothing."""


def _replaced() -> None:
    once_called.to_deployment("daily", schedule=Cron("7 * * * *", active=False), paused=True).apply()
    now_called.to_deployment("daily", schedule=Cron("30 4 * * *")).apply()
    assert replace_deployment("once-called/daily", "now-called/daily")
    assert not replace_deployment("once-called/daily", "now-called/daily")
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("now-called/daily")
        assert [(each.schedule.cron, each.active) for each in found.schedules] == [("7 * * * *", False)]
        assert found.paused


def test_a_renamed_deployment_keeps_its_schedules(prefect: str) -> None:
    # in a thread of its own: a browser of other tests keeps a loop in this one
    with temporary_settings({PREFECT_API_URL: prefect}), ThreadPoolExecutor(1) as thread:
        thread.submit(contextvars.copy_context().run, _replaced).result()


def _deployed_again() -> list[tuple[bool, list[str]]]:
    make_pools(["default"], 1)
    first = Deployment(f"{__name__}:now_called", "nightly", "Does nothing.", cron="0 2 * * *")
    found = []
    for item in (first, replace(first, cron="0 3 * * *"), replace(first, cron="0 4 * * *", reschedules=True)):
        deploy(item)
        with get_client(sync_client=True) as client:
            there = client.read_deployment_by_name("now-called/nightly")
            found.append((there.paused, [each.schedule.cron for each in there.schedules]))
            client.update_deployment(there.id, DeploymentUpdate(paused=True))
    return found


def test_deployed_again_it_stays_paused_and_keeps_its_schedule_unless_another_is_asked_for(prefect: str) -> None:
    with temporary_settings({PREFECT_API_URL: prefect}), ThreadPoolExecutor(1) as thread:
        found = thread.submit(contextvars.copy_context().run, _deployed_again).result()
    assert found == [(False, ["0 2 * * *"]), (True, ["0 2 * * *"]), (True, ["0 4 * * *"])]
