"""The whole path on a tiny recipe, through the command line: golden run, cache, kill, race, rerun, registry."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.store import LocalStore
from tests.flows.tiny import STAGES, deepmill, environment, start, write_recipe


class Milled:
    """A finished run and the folder it was made in."""

    def __init__(self, root: Path, printed: str) -> None:
        self.root, self.printed = root, printed
        self.store = LocalStore(root / "store")

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for name in self.store.runs() if (record := self.store.read_run(name))]

    def contents(self) -> dict[str, list[str]]:
        """Content digests of every artifact, by stage."""
        return {name: sorted(item.content for item in self.store.manifests(name)) for name in STAGES}


@pytest.fixture(scope="module")
def milled(tmp_path_factory: pytest.TempPathFactory) -> Milled:
    root = tmp_path_factory.mktemp("milled")
    write_recipe(root)
    return Milled(root, deepmill(root, "run", "tiny.yaml"))


@pytest.fixture
def unchanged(milled: Milled) -> Milled:
    """The golden run, for tests that add to its store; they use names of their own."""
    return milled


def test_every_stage_made_an_artifact(milled: Milled) -> None:
    (record,) = milled.records
    assert record["state"] == "completed"
    assert {name for name, entry in record["stages"].items() if entry["state"] == "made"} == set(STAGES)
    assert all(len(contents) == 1 for contents in milled.contents().values())


def test_the_terminal_tells_the_story_without_noise(milled: Milled) -> None:
    for name in STAGES:
        assert re.search(rf"✓ {name} +made", milled.printed), milled.printed
    for word in ("Warning", "Traceback", "Downloading", "%|", "DEBUG", "http://127"):
        assert word not in milled.printed
    assert "deepmill-tiny version 1 is champion" in milled.printed
    assert "30 documents" not in milled.printed.splitlines()[0]
    assert "60 → 59 documents" in milled.printed  # the one duplicate of the corpus


def test_stage_logs_hold_no_warning(milled: Milled) -> None:
    found = [path for path in (milled.root / "store").rglob("*.log") if "mlartifacts" not in path.parts]
    told = {path: path.read_text() for path in found}
    assert not [path for path, text in told.items() if "Warning" in text or "Traceback" in text], told


def test_nothing_is_made_twice(unchanged: Milled) -> None:
    runs = len(unchanged.records)
    printed = deepmill(unchanged.root, "run", "tiny.yaml")
    assert "Everything is there already" in printed
    assert len(unchanged.records) == runs
    assert "deepmill chat deepmill-tiny@champion" in printed


def test_the_report_needs_nothing_else(milled: Milled) -> None:
    run_id = milled.records[0]["run_id"]
    path = Path(deepmill(milled.root, "report", run_id).strip())
    page = path.read_text()
    assert run_id in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    for name in STAGES:
        assert name in page


def test_mlflow_has_a_parent_and_a_child_per_stage(milled: Milled) -> None:
    base = sqlite3.connect(milled.root / "store" / "mlflow.db")
    parent = milled.records[0]["mlflow"]["run_id"]
    children = dict(
        base.execute(
            "select r.name, r.run_uuid from runs r join tags t on r.run_uuid = t.run_uuid "
            "where t.key = 'mlflow.parentRunId' and t.value = ? and r.status = 'FINISHED'",
            (parent,),
        )
    )
    assert set(children) == set(STAGES)
    params = dict(base.execute("select key, value from params where run_uuid = ?", (children["pretrain"],)))
    assert params["steps"] == "4"
    assert params["model.hidden_size"] == "32"
    losses = base.execute(
        "select step, value from metrics where run_uuid = ? and key = 'loss' order by step", (children["pretrain"],)
    ).fetchall()
    assert len(losses) == 4
    inputs = base.execute(
        "select d.name from datasets d join inputs i on i.source_id = d.dataset_uuid where i.destination_id = ?",
        (children["sft"],),
    )
    assert {name for (name,) in inputs} == {"pretrain", "tokenizer", "reasoning"}
    assert base.execute("select status from runs where run_uuid = ?", (parent,)).fetchone() == ("FINISHED",)


def test_the_registered_model_answers(milled: Milled) -> None:
    assert "deepmill-tiny" in deepmill(milled.root, "models")
    printed = deepmill(milled.root, "chat", "deepmill-tiny@champion", "--question", "Calculate 1 + 2.")
    assert "mill " in printed
    assert "Warning" not in printed
    missing = deepmill(milled.root, "chat", "deepmill-tiny@nobody", "-q", "1", status=1)
    assert "deepmill-tiny@nobody: not in the registry" in missing


def test_a_changed_key_makes_only_what_depends_on_it_and_a_version(unchanged: Milled) -> None:
    plan = deepmill(unchanged.root, "plan", "tiny.yaml", "--set", "export.title=Other")
    assert "export.title: deepmill → Other" in plan
    assert "1 of 13 stages would run" in plan
    printed = deepmill(unchanged.root, "run", "tiny.yaml", "--set", "export.title=Other")
    assert len(re.findall("✓ .* made", printed)) == 3  # export, register, promote
    assert "deepmill-tiny version 2 is the champion now" in printed
    assert "version 1 is the champion again" in deepmill(unchanged.root, "rollback", "deepmill-tiny")
    refused = deepmill(unchanged.root, "rollback", "deepmill-tiny", status=1)
    assert "is its first champion; there is nothing to go back to" in refused
    deepmill(unchanged.root, "promote", "deepmill-tiny", "2")
    assert "champion" in deepmill(unchanged.root, "models")


def test_a_gate_that_does_not_pass_leaves_a_challenger(unchanged: Milled) -> None:
    settings = ["--set", "promote.min_accuracy=0.99", "--set", "registry.model=strict"]
    printed = deepmill(unchanged.root, "run", "tiny.yaml", *settings)
    assert "strict version 1 stays a challenger: accuracy" in printed
    assert "not in the registry" in deepmill(unchanged.root, "chat", "strict@champion", "-q", "1", status=1)


def test_rerun_gives_the_same_bytes(milled: Milled) -> None:
    run_id = milled.records[0]["run_id"]
    for name in ("tokenizer", "pretrain", "grpo"):
        printed = deepmill(milled.root, "rerun", run_id, "--stage", name)
        assert re.search(rf"{name} +same bytes", printed), printed


def test_two_runs_at_once_make_each_stage_once(unchanged: Milled) -> None:
    known = set(unchanged.store.runs())
    settings = ["--set", "evaluate.problems=3", "--set", "quantize.seed=4"]
    processes = [start(unchanged.root, "run", "tiny.yaml", *settings) for _ in range(2)]
    printed = [process.communicate(timeout=280)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    records = [unchanged.store.read_run(name) or {} for name in unchanged.store.runs() if name not in known]
    assert len(records) == 2
    made = [name for record in records for name, entry in record["stages"].items() if entry["state"] == "made"]
    assert sorted(made) == ["evaluate", "export", "quantize"]
    assert len({record["release"]["version"] for record in records}) == 1


def _has_begun(staging: Path, since: float) -> bool:
    """Whether a stage has, in the run that began then: the run before may have been killed just as it went on to it."""
    for path in staging.glob("*/events*"):
        with contextlib.suppress(FileNotFoundError):  # made anew
            if path.stat().st_mtime > since:
                return True
    return False


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_killed_in_every_stage_it_ends_with_the_same_artifacts(milled: Milled, tmp_path: Path) -> None:
    write_recipe(tmp_path)
    for name in STAGES:
        begun = time.time()
        process = start(tmp_path, "run", "tiny.yaml")
        staging = tmp_path / "store" / ".staging" / name
        deadline = time.monotonic() + 120
        while not _has_begun(staging, begun) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert process.poll() is None, f"{name}: {process.communicate()[0]}"
        time.sleep(1.0)  # into the work of the stage
        family = [process, *psutil.Process(process.pid).children(recursive=True)]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs([member for member in family if isinstance(member, psutil.Process)], timeout=15)
        assert not alive, f"{name}: left running: {alive}"
    deepmill(tmp_path, "run", "tiny.yaml")
    again = Milled(tmp_path, "")
    golden = {
        entry["identity"]: milled.store.find(name, entry["identity"]).content  # type: ignore[union-attr]
        for name, entry in milled.records[0]["stages"].items()
        if name in STAGES
    }
    found = {item.identity: item.content for name in STAGES for item in again.store.manifests(name)}
    assert found == golden
    assert deepmill(tmp_path, "status").count("interrupted") == len(STAGES)


@pytest.fixture
def server(milled: Milled, tmp_path: Path) -> Iterator[str]:
    """A Prefect server that runs before and after the flow."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"],
        env=environment(milled.root) | {"PREFECT_HOME": str(tmp_path / "prefect")},
    )
    url = f"http://127.0.0.1:{port}/api"
    deadline = time.monotonic() + 90
    while True:
        try:
            if urllib.request.urlopen(f"{url}/health", timeout=5).status == 200:
                break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
    yield url
    process.terminate()
    process.wait()


def ask(url: str, **body: Any) -> Any:
    """A POST to Prefect's API."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def test_a_server_shows_flows_tasks_logs_and_tables(
    unchanged: Milled, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPMILL_TEST_PREFECT_API_URL", server)
    deepmill(unchanged.root, "run", "tiny.yaml", "--set", "quantize.seed=9", "--set", "promote.min_accuracy=0.9")
    flows = {run["id"]: run for run in ask(f"{server}/flow_runs/filter")}
    names = {flow["id"]: flow["name"] for flow in ask(f"{server}/flows/filter")}
    assert sorted(names[run["flow_id"]] for run in flows.values()) == [
        "corpus",
        "finetune",
        "mill",
        "pretrain",
        "release",
    ]
    assert {run["state_type"] for run in flows.values()} == {"COMPLETED"}
    tasks = {run["name"]: run["state_name"] for run in ask(f"{server}/task_runs/filter")}
    assert {tasks[name] for name in STAGES[: STAGES.index("quantize")]} == {"Cached"}
    assert {tasks[name] for name in ("quantize", "export", "register")} == {"Completed"}
    keys = {artifact["key"] for artifact in ask(f"{server}/artifacts/filter")}
    assert {f"{name}-metrics" for name in STAGES} | {"gates", "run"} <= keys
    assert any("calibrating" in log["message"] for log in ask(f"{server}/logs/filter"))
    top = next(run for run in flows.values() if names[run["flow_id"]] == "mill")
    assert top["parameters"]["recipe"]["quantize"]["seed"] == 9
    record = unchanged.records[-1]
    assert record["prefect"]["flow_run_id"] == top["id"]
