"""The servers as somebody alone starts them: SQLite, a login by link; killed outright, and up again with all kept."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from typing import Any

import psutil
import pytest

from tests.flows.chromium import CHROMIUM
from tests.flows.operations.running import VOCABULARY, House, belonging_to, field, until

pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.mark.nightly  # `test_up` has a run from the form, `test_up_doors` a link that logs in
def test_a_run_from_the_form(alone: House, stranger: Any) -> None:
    deployment = alone.deployment("corpus/tiny")
    stranger.goto(alone.links()["Prefect"])
    stranger.goto(f"{alone.prefect}/deployments/deployment/{deployment['id']}/run")
    stranger.get_by_text("Byte-level BPE").first.wait_for()  # the whole form is there
    field(stranger, "Vocabulary").fill(str(VOCABULARY))
    answered = 503
    while answered == 503:  # SQLite was busy: the page says so, and one clicks again
        with stranger.expect_response("**/create_flow_run") as answer:
            stranger.get_by_role("button", name="Submit").click()
        answered = answer.value.status
    stranger.wait_for_url("**tab=Runs")
    (run,) = alone.ask("/flow_runs/filter", {"deployments": {"id": {"any_": [deployment["id"]]}}})
    stranger.goto("about:blank")  # it would draw on
    assert alone.wait(run["id"], "COMPLETED", "FAILED", "CRASHED")["type"] == "COMPLETED", alone.worker_log()
    assert alone.records()[-1]["recipe"]["tokenizer"]["vocabulary"] == VOCABULARY


def open_pool(at: House) -> None:
    """Make the pool, and a deployment on it, what an older version made of them."""
    pool = at.ask("/work_pools/default")["base_job_template"]
    for name in ("command", "env", "working_dir"):
        pool["variables"]["properties"][name] = {}
        pool["job_configuration"][name] = "{{ " + name + " }}"
    del pool["variables"]["additionalProperties"]
    at.ask("/work_pools/default", {"base_job_template": pool}, method="PATCH")
    brought = {"command": "python -m prefect.engine", "working_dir": str(at.root), "stream_output": True}
    older: dict[str, Any] = {"job_variables": brought}
    at.ask(f"/deployments/{at.deployment('mill/tiny')['id']}", older, method="PATCH")
    by_hand: dict[str, Any] = {
        "name": "by-hand",
        "flow_id": at.deployment("mill/tiny")["flow_id"],
        "work_pool_name": "default",
        "parameters": {"recipe": at.deployment("mill/tiny")["parameters"]["recipe"]},
    }
    by_hand["parameters"]["recipe"]["extract"]["sources"]["notes"]["paths"] = ["corpus/notes.jsonl"]
    at.ask("/deployments/", by_hand | older)


def check_pool(at: House) -> None:
    """Whoever starts a run names no command again; a deployment that somebody added means the files that it meant."""
    pool = at.ask("/work_pools/default")["base_job_template"]
    assert not {"command", "env", "working_dir"} & set(pool["variables"]["properties"])
    assert pool["job_configuration"]["working_dir"] == str(at.root)
    assert at.deployment("mill/tiny")["job_variables"] == {}
    kept = at.deployment("mill/by-hand")
    assert kept["job_variables"] == {"stream_output": True}
    (path,) = kept["parameters"]["recipe"]["extract"]["sources"]["notes"]["paths"]
    assert path == str(at.root / "corpus" / "notes.jsonl")


def test_all_killed_and_up_again(alone: House) -> None:
    """The keeper is killed in the middle of a run: nothing is left of it, and the next `up` tells and goes on."""
    run = alone.start_training()
    open_pool(alone)
    os.kill(alone.services()["keeper"]["pid"], signal.SIGKILL)
    assert not psutil.wait_procs(belonging_to(alone.root), timeout=60)[1]
    record = alone.records()[-1]
    assert record["state"] == "running"  # nobody was left to say otherwise
    alone.deepmill("up")
    check_pool(alone)
    assert alone.wait(run, "CRASHED", seconds=100)["message"].startswith("its process was killed")
    until(lambda: alone.records()[-1]["state"] == "interrupted", 100, alone.worker_log)
    with contextlib.closing(sqlite3.connect(alone.root / "store" / "mlflow.db")) as base:
        logged = base.execute(
            "select r.status from runs r join tags t on r.run_uuid = t.run_uuid "
            "where t.key = 'deepmill.run_id' and t.value = ?",
            (record["run_id"],),
        ).fetchall()
    assert logged == [("KILLED",)]
    recipe = alone.recipe(pretrain={"steps": 3})
    recipe |= dict.fromkeys(("sft", "grpo", "evaluate", "quantize", "export"))
    assert alone.wait(alone.start("mill/tiny", recipe=recipe), "COMPLETED", "FAILED", "CRASHED")["type"] == "COMPLETED"
    stages = alone.records()[-1]["stages"]
    assert {name: stage["state"] for name, stage in stages.items() if stage["state"] != "cached"} == {
        "pretrain": "made"
    }
    assert all(entry["restarts"] == 0 for name, entry in alone.services().items() if name != "keeper")
