"""The mill as a service, as its users see it: in the Prefect UI, by schedule, from the command line."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from tests.flows.chromium import CHROMIUM
from tests.flows.operations.running import VOCABULARY, House, field, until

pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
GONE_SECONDS = 120.0
"""What is promised is 10 s, which a machine with other work cannot show; `-s` prints what it was."""


def _of_run(process: psutil.Process, run: str) -> bool:
    try:
        return process.environ().get("PREFECT__FLOW_RUN_ID") == run
    except psutil.Error:
        return False


def test_a_run_from_the_form(up: House, page: Any) -> None:
    """The form is filled in with the recipe, explains its keys, refuses what is wrong, and starts the CLI's run."""
    deployment = up.deployment("corpus/tiny")
    page.goto(f"{up.prefect}/deployments/deployment/{deployment['id']}/run")
    page.get_by_text("Byte-level BPE").first.wait_for()  # the help texts of the recipe's sections and keys
    assert "Tokens, special ones included" in page.content()
    vocabulary = field(page, "Vocabulary")
    assert vocabulary.input_value() == "400"
    vocabulary.fill("3")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("3 is less than the minimum of").first.wait_for()
    vocabulary.fill(str(VOCABULARY))
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**tab=Runs")
    (run,) = up.ask("/flow_runs/filter", {"deployments": {"id": {"any_": [deployment["id"]]}}})
    up.wait(run["id"], "COMPLETED")
    (record,) = [record for record in up.records() if record["prefect"].get("flow_run_id") == run["id"]]
    assert record["recipe"]["tokenizer"]["vocabulary"] == VOCABULARY
    assert record["state"] == "completed"
    assert record["mlflow"]["uri"] == up.mlflow
    assert "trouble" not in record["mlflow"]
    plan = up.deepmill("plan", "tiny.yaml", "--set", f"tokenizer.vocabulary={VOCABULARY}")
    assert len(re.findall(r"^(?:extract|clean|dedup|decontaminate|tokenizer|shards) .*cached", plan, re.MULTILINE)) == 6


def test_links_lead_from_each_place_to_the_others(up: House, page: Any) -> None:
    record = up.records()[0]
    page.goto(f"{up.prefect}/runs/flow-run/{record['prefect']['flow_run_id']}")
    page.get_by_text("Artifacts", exact=True).last.click()
    page.get_by_text("run", exact=True).first.click()
    link = page.get_by_role("link", name="MLflow run").first
    link.wait_for()
    address = link.get_attribute("href")
    page.goto(str(address))
    page.get_by_role("link", name="Prefect run").first.wait_for()
    page.get_by_role("link", name="Report").first.wait_for()
    page.goto(str(page.get_by_role("link", name="Report").first.get_attribute("href")))
    assert record["run_id"] in page.content()
    identity = record["stages"]["tokenizer"]["identity"]
    page.goto(f"{up.pages}/artifacts/tokenizer/{identity}")
    assert "tokenizer.json" in page.content()
    page.goto(up.pages)
    assert page.get_by_role("link", name="tiny").count() >= 1
    assert "Prefect does not answer" not in page.content()
    coming = page.locator("#coming").inner_text()
    assert re.search(r"UTC: |Nothing is scheduled", coming), coming


def test_cancelled_in_the_ui_it_is_gone_and_goes_on(up: House, page: Any) -> None:
    run = up.start_training()
    page.goto(f"{up.prefect}/runs/flow-run/{run}")
    page.get_by_role("button", name="Cancel", exact=True).wait_for()
    family = [process for process in psutil.process_iter() if _of_run(process, run)]
    assert len(family) >= 3  # flow, supervisor, stage
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Confirm").click()
    clicked = time.monotonic()
    gone: list[float] = []
    _, alive = psutil.wait_procs(
        family, timeout=GONE_SECONDS, callback=lambda process: gone.append(time.monotonic() - clicked)
    )
    page.goto("about:blank")  # it would draw the next run as well
    print(f"gone after {', '.join(f'{seconds:.1f}' for seconds in gone)} s")
    assert not alive
    assert up.wait(run, "CANCELLED")["type"] == "CANCELLED"
    record = up.records()[-1]
    assert record["state"] == "cancelled"
    assert record["stages"]["pretrain"]["state"] == "failed"
    again = up.start("mill/tiny", recipe=up.recipe())
    up.wait(again, "COMPLETED", "FAILED", "CRASHED")
    record = up.records()[-1]
    assert record["state"] == "completed"
    assert {name for name, entry in record["stages"].items() if entry["state"] == "made"} == {"pretrain"}
    assert record["release"]["promoted"]


def test_the_same_run_from_the_command_line(up: House) -> None:
    """Nothing is left to do for the recipe that the worker ran; a changed key runs on the same servers."""
    assert "Everything is cached" in up.deepmill("run", "tiny.yaml")
    printed = up.deepmill("run", "tiny.yaml", "--set", "export.title=Other")
    assert "deepmill-tiny version 2" in printed
    record = up.records()[-1]
    assert up.state(record["prefect"]["flow_run_id"])["type"] == "COMPLETED"
    assert record["mlflow"]["uri"] == up.mlflow


def test_a_promotion_in_mlflow_itself_is_judged(up: House, page: Any, client: MlflowClient) -> None:
    """Somebody makes a version champion that nobody measured; the next look at the registry gives the alias back."""
    before = client.get_model_version_by_alias("deepmill-tiny", "champion")
    logged = before.source.removeprefix("models:/")
    new = client.create_model_version("deepmill-tiny", before.source, before.run_id, model_id=logged)
    page.goto(f"{up.mlflow}/#/models/deepmill-tiny/versions/{new.version}")
    page.get_by_role("button", name="Add").first.click()
    dialog = page.get_by_role("dialog")
    box = dialog.get_by_role("combobox")
    box.click()
    box.type("champion")
    box.press("Enter")
    page.get_by_role("button", name="Save aliases").click()
    dialog.wait_for(state="hidden")
    assert client.get_model_version_by_alias("deepmill-tiny", "champion").version == new.version
    up.wait(up.start("audit-champion/every-model"), "COMPLETED")
    assert client.get_model_version_by_alias("deepmill-tiny", "champion").version == before.version
    moves = [text for key, text in client.get_registered_model("deepmill-tiny").tags.items() if "audit" in key]
    assert any(f"version {new.version} was made champion by hand, against its gates" in text for text in moves)


def test_a_recipe_sends_a_flow_to_another_pool(up: House) -> None:
    """The corpus is there already; training runs on the workers of the pool `gpu`, and the run's record has it all."""
    recipe = up.recipe(execution={"pools": {"pretrain": "gpu"}}, pretrain={"steps": 3})
    recipe |= dict.fromkeys(("sft", "grpo", "evaluate", "quantize", "export"))
    run = up.start("mill/tiny", recipe=recipe)
    up.wait(run, "COMPLETED", "FAILED", "CRASHED")
    record = next(record for record in reversed(up.records()) if record["prefect"].get("flow_run_id") == run)
    assert record["state"] == "completed", record["error"]
    assert record["stages"]["pretrain"]["state"] == "made"
    (other,) = up.ask("/flow_runs/filter", {"deployments": {"name": {"any_": ["on-gpu"]}}})
    assert (other["state_type"], other["work_pool_name"]) == ("COMPLETED", "gpu")
    assert other["parent_task_run_id"]  # it stands below the run in the UI
    assert up.ask("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})[0]["work_pool_name"] == "default"


def test_a_stage_made_again_from_the_ui(up: House) -> None:
    made = next(each["run_id"] for each in up.records() if "tokenizer" in each["stages"])
    run = up.start("rerun/by-hand", run_id=made, stage="tokenizer")
    assert up.wait(run, "COMPLETED", "FAILED", "CRASHED")["message"] == "1 stages, the same bytes"


@pytest.fixture
def second_worker(up: House, tmp_path: Path) -> Iterator[None]:
    """Another machine that serves the same pool."""
    variables = up.environment | {
        "DEEPMILL_SERVERS": "127.0.0.1",
        "DEEPMILL_HOME": str(tmp_path / "services"),
        "DEEPMILL_POOLS": "default",
    }
    with (tmp_path / "worker.log").open("wb") as log:
        command = [sys.executable, "-m", "flows.cli", "worker"]
        process = subprocess.Popen(command, env=variables, cwd=up.root, stdout=log, stderr=log)
    until(lambda: "started!" in (tmp_path / "worker.log").read_text(), 300, (tmp_path / "worker.log").read_text)
    yield
    process.terminate()
    assert process.wait(60) == 0


@pytest.mark.usefixtures("second_worker")
def test_two_workers_and_a_schedule_make_everything_once(up: House) -> None:
    """One run for each due time, whoever takes it; two runs that want the same artifacts share them."""
    heartbeat = up.deployment("heartbeat/hourly")["id"]
    every_minute = [{"schedule": {"cron": "* * * * *", "timezone": "UTC"}, "active": True}]
    (schedule,) = up.ask(f"/deployments/{heartbeat}/schedules", every_minute)
    recipe = up.recipe(tokenizer={"vocabulary": 420})
    corpus = recipe | dict.fromkeys(("pretrain", "sft", "grpo", "evaluate", "quantize", "export"))
    known = len(up.records())
    with ThreadPoolExecutor(1) as beside:  # a scheduled run of its own, while those of the heartbeat go on
        doctor = beside.submit(up.deepmill, "doctor", "--cron")
        for run in [up.start(name, recipe=corpus) for name in ("mill/tiny", "corpus/tiny")]:
            assert up.wait(run, "COMPLETED", "FAILED", "CRASHED")["type"] == "COMPLETED", up.worker_log()
        printed = doctor.result()
    made = [name for each in up.records()[known:] for name, at in each["stages"].items() if at["state"] == "made"]
    assert sorted(made) == ["shards", "tokenizer"]
    assert "✗" not in printed
    assert "a cron run completed" in printed
    assert not [item for item in up.ask("/deployments/filter", {}) if item["name"].startswith("doctor")]

    def due() -> list[str]:
        body = {"deployments": {"id": {"any_": [heartbeat]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        return [run["expected_start_time"] for run in up.ask("/flow_runs/filter", body)]

    until(due, 300, up.worker_log)
    up.ask(f"/deployments/{heartbeat}/schedules/{schedule['id']}", method="DELETE")
    assert len(due()) == len(set(due()))


def test_the_pages_tell_prometheus(up: House) -> None:
    text = up.read(f"{up.pages}/metrics")
    assert re.search(r'deepmill_runs\{recipe="tiny",state="completed"\} [1-9]', text)
    assert 'deepmill_stage_seconds{recipe="tiny",stage="pretrain"}' in text


def test_status_and_logs(up: House) -> None:
    printed = up.deepmill("status")
    for name in ("prefect", "mlflow", "pages", "worker-default"):
        assert re.search(rf"{name} +up", printed)
    assert "already up" in up.deepmill("up", status=1)
    assert "Finished in state" in up.deepmill("logs", "worker-default", "--lines", "400")
    assert "no such log" in up.deepmill("logs", "nobody", status=1)
