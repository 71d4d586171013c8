"""Deployments on a Prefect server: what an earlier version called otherwise is taken over, as somebody left it."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.operations.deployments import replace_deployment


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
