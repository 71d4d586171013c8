"""Servers with PostgreSQL, S3 and a login behind them: what they refuse, what they keep secret, what they survive."""

from __future__ import annotations

import os
import signal
import time
import urllib.error
import urllib.request
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from tests.flows.operations.running import LOGIN, House, until
from tests.infra.postgres import PASSWORD, Postgres
from tests.infra.s3 import SECRET

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1800)]


def status_of(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_without_a_login_nobody_is_let_in(up: House) -> None:
    for address in (
        f"{up.prefect}/api/deployments/name/mill/tiny",
        f"{up.mlflow}/api/2.0/mlflow/registered-models/search",
        f"{up.pages}/",
        f"{up.pages}/metrics",
    ):
        assert status_of(address) == 401, address
    assert up.deployment("mill/tiny")["name"] == "tiny"  # with it, it works


def test_prefect_asks_for_the_login(up: House, stranger: Any) -> None:
    stranger.goto(f"{up.prefect}/deployments")
    for given, answer in (("team:guessed", "Authentication failed"), (LOGIN, "heartbeat")):
        stranger.locator("input[type=password]").fill(given)
        stranger.get_by_role("button", name="Login").click()
        stranger.get_by_text(answer).first.wait_for()


def test_commands_ask_all_of_them(up: House) -> None:
    assert "corpus" not in up.deepmill("gc")  # it can ask the registry, with the login
    listed = up.deepmill("doctor")
    assert "✗" not in listed, listed


def test_secrets_are_nowhere(up: House) -> None:
    """Neither in files that the mill writes, nor in what Prefect shows, nor in the arguments of a process."""
    secrets = [PASSWORD, SECRET, LOGIN.split(":")[1]]
    shown = (
        str(up.ask("/deployments/filter", {}))
        + str(up.ask("/flow_runs/filter", {}))
        + str(up.ask("/logs/filter", {}))
        + str(up.ask("/work_pools/filter", {}))
    )
    shown += "".join(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    assert not [secret for secret in secrets if secret in shown]
    for path in (up.root / "store").rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in text], path


def test_servers_and_database_are_killed_and_the_run_goes_on(up: House, database: Postgres) -> None:
    """Prefect, MLflow, the worker's server connection and PostgreSQL go away in the middle of a run."""
    recipe = up.recipe(tokenizer={"vocabulary": 430})  # it and the shards are made anew
    begun = time.time()
    run = up.start("corpus/tiny", recipe=recipe)
    up.wait_for_stage("*", begun)
    services = up.services()
    for name in ("prefect", "mlflow"):
        for process in psutil.Process(services[name]["pid"]).children(recursive=True):
            os.kill(process.pid, signal.SIGKILL)
    database.kill()
    database.start()
    until(lambda: all(up.services()[name]["restarts"] >= 1 for name in ("prefect", "mlflow")), 300)
    until(
        lambda: all(
            entry["state"] == "up" for entry in up.services().values() if "state" in entry and not entry["once"]
        ),
        400,
    )
    until(lambda: up.records()[-1]["state"] != "running", 600, up.worker_log)
    if up.records()[-1]["state"] != "completed":  # the flow noticed; whoever starts it again goes on from there
        again = up.start("corpus/tiny", recipe=recipe)
        up.wait(again, "COMPLETED", "FAILED", "CRASHED")
    record = up.records()[-1]
    assert record["state"] == "completed"
    assert "trouble" not in record["mlflow"]
    assert run


@pytest.mark.nightly  # `test_up_alone` kills the worker with all the others, and is told the same
def test_a_worker_is_killed_and_its_run_is_told_of_at_once(up: House, client: MlflowClient) -> None:
    """What it was running dies with it, is told in Prefect and MLflow once the next worker is there, and goes on."""
    run = up.start_training()
    worker, *family = psutil.Process(up.services()["worker-default"]["pid"]).children(recursive=True)
    family = [process for process in family if process.status() != psutil.STATUS_ZOMBIE]
    assert len(family) >= 3  # flow, supervisor, stage
    worker.kill()
    assert not psutil.wait_procs(family, timeout=30)[1]
    told = up.wait(run, "CRASHED", seconds=100)  # not the minutes after which heartbeats count as missing
    assert told["message"].startswith("its process was killed")
    (record,) = [record for record in up.records() if record["prefect"].get("flow_run_id") == run]
    until(lambda: up.record(record["run_id"])["state"] == "interrupted", 100, up.worker_log)
    where = [item.experiment_id for item in client.search_experiments()]
    (logged,) = client.search_runs(where, f"tags.`deepmill.run_id` = '{record['run_id']}'")
    stages = client.search_runs(where, f"tags.mlflow.parentRunId = '{logged.info.run_id}'")
    assert {item.info.status for item in (logged, *stages)} <= {"KILLED", "FINISHED"}
    assert logged.info.status == "KILLED"
    after = up.wait(up.start("heartbeat/hourly"), "COMPLETED", "FAILED", "CRASHED")
    assert after["type"] == "COMPLETED", up.worker_log()  # by the worker that took the place
