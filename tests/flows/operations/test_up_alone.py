"""The servers as somebody alone starts them: SQLite, no login; killed outright, and up again with all kept."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.flows.chromium import CHROMIUM
from tests.flows.operations.running import VOCABULARY, House, belonging_to, field, house, until
from tests.flows.tiny import write_recipe

pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("alone")
    write_recipe(root)
    with house(root) as at:
        yield at
    assert not belonging_to(root)


def test_a_run_from_the_form(alone: House, stranger: Any) -> None:
    deployment = alone.deployment("corpus/tiny")
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


def test_all_killed_and_up_again(alone: House) -> None:
    """The keeper is killed in the middle of a run: nothing is left of it, and the next `up` tells and goes on."""
    run = alone.start_training()
    os.kill(alone.services()["keeper"]["pid"], signal.SIGKILL)
    assert not psutil.wait_procs(belonging_to(alone.root), timeout=60)[1]
    assert alone.records()[-1]["state"] == "running"  # nobody was left to say otherwise
    alone.deepmill("up")
    assert alone.wait(run, "CRASHED", seconds=100)["message"].startswith("its process was killed")
    until(lambda: alone.records()[-1]["state"] == "interrupted", 100, alone.worker_log)
    recipe = alone.recipe()
    recipe["pretrain"]["steps"] = 3
    recipe |= dict.fromkeys(("sft", "grpo", "evaluate", "quantize", "export"))
    assert alone.wait(alone.start("mill/tiny", recipe=recipe), "COMPLETED", "FAILED", "CRASHED")["type"] == "COMPLETED"
    stages = alone.records()[-1]["stages"]
    assert {name: stage["state"] for name, stage in stages.items() if stage["state"] != "cached"} == {
        "pretrain": "made"
    }
    assert all(entry["restarts"] == 0 for name, entry in alone.services().items() if name != "keeper")
