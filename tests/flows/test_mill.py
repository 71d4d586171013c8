"""The whole path on a tiny recipe, through the command line: golden run, cache, race, rerun, registry, server."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from flows.registry.facts import FACTS as TAG
from flows.registry.release import DISCLOSURE
from flows.report.disclosure_pages import FACTS, PAGES
from infra.errors import UserError
from tests.flows.golden import Milled, golden
from tests.flows.tiny import HOUSE, SECONDS, SERVER, STAGES, ask, deepmill, environment, start

DISCLOSED = Path(__file__).parent / "report" / "disclosed"


@pytest.fixture(scope="module")
def milled() -> Milled:
    return golden()


CHANGED = (
    "quantize.seed=4",
    "quantize.prune={share: 0.25, heal_steps: 2, heal_batch: 2}",
    "export.title=Other",
)
"""What the runs behind the golden one change of the recipe: its last two stages are made anew, and the model that is
served, without some of its experts, is evaluated."""


def set_to(*settings: str) -> list[str]:
    return [word for each in settings for word in ("--set", each)]


@pytest.fixture
def unchanged(milled: Milled, on_prefect: str) -> Milled:
    """The golden run, for tests that add to its store; they use names of their own."""
    return milled


def test_every_stage_made_an_artifact(milled: Milled) -> None:
    record = milled.records[0]
    assert record["state"] == "completed"
    assert {name for name, entry in record["stages"].items() if entry["state"] == "made"} == set(STAGES)
    assert len(milled.made()) == len(STAGES)


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


def test_nothing_is_made_twice_and_that_is_told_without_the_heavy_packages(unchanged: Milled) -> None:
    """Importing Prefect and MLflow takes most of such a run."""
    runs = len(unchanged.records)
    command = [sys.executable, "-X", "importtime", "-m", "flows.cli", "run", "tiny.yaml"]
    ended = subprocess.run(
        command, env=environment(unchanged.root), cwd=unchanged.root, capture_output=True, text=True, check=True
    )
    assert "Everything is cached" in ended.stdout
    assert "deepmill chat deepmill-tiny@champion" in ended.stdout
    assert len(unchanged.records) == runs
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "flows.recipe.plan" in imported
    assert imported.isdisjoint({"prefect", "mlflow", "torch", "matplotlib", "datatrove"})


def test_the_report_needs_nothing_else(milled: Milled) -> None:
    path = Path("".join(ask(milled.root, "report", milled.run_id).splitlines()))
    page = path.read_text()
    assert milled.run_id in page
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
    assert {name for (name,) in inputs} == {"pretrain", "tokenizer", "reasoning", "shards"}
    assert base.execute("select status from runs where run_uuid = ?", (parent,)).fetchone() == ("FINISHED",)


def test_the_registered_model_answers(milled: Milled) -> None:
    assert "deepmill-tiny" in ask(milled.root, "models")
    printed = deepmill(milled.root, "chat", "deepmill-tiny@champion", "--question", "Calculate 1 + 2.")
    assert "mill " in printed
    assert "Warning" not in printed
    program = [sys.executable, str(HOUSE / "examples/predict.py"), "deepmill-tiny@champion", "Calculate 1 + 2."]
    shown = subprocess.run(
        program, cwd=milled.root, env=environment(milled.root), capture_output=True, text=True, timeout=300, check=False
    )
    assert shown.returncode == 0, shown.stderr
    with pytest.raises(UserError, match="deepmill-tiny@nobody: not in the registry"):
        ask(milled.root, "chat", "deepmill-tiny@nobody", "-q", "1")


def test_a_release_carries_what_it_was_trained_on_and_that_can_be_derived_again(milled: Milled, tmp_path: Path) -> None:
    """After an intended change: `DEEPMILL_GOLDEN=write python -m pytest tests/flows/test_mill.py -k derived_again`."""
    carried = next((milled.root / "store" / "mlartifacts").rglob(f"artifacts/{DISCLOSURE}/{FACTS}")).parent
    for name in ("deepmill-tiny/1", milled.run_id):
        ask(milled.root, "disclose", name, "--to", str(tmp_path / "again"))
        for file in (*PAGES, FACTS):
            assert (carried / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    base = sqlite3.connect(milled.root / "store" / "mlflow.db")
    described = base.execute("select description from model_versions where version = 1").fetchone()[0]
    assert (carried / "MODEL_CARD.md").read_text() == described
    assert "## On a device" in described
    assert "## Measured" in described
    assert "| notes | not stated by the provider |\n| wiki | CC-BY-SA-4.0 |" in described
    summary = re.sub(r"\b[0-9a-f]{16,64}\b", "DIGEST", (carried / PAGES[0]).read_text())
    summary = re.sub(r"\b20\d\d-\d\d-\d\d\b", "DAY", summary)
    if os.environ.get("DEEPMILL_GOLDEN") == "write":
        (DISCLOSED / "tiny.md").write_text(summary)
    assert summary == (DISCLOSED / "tiny.md").read_text()


@pytest.fixture(scope="module")
def raced(milled: Milled, prefect: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Two runs at once of a recipe with changed keys, on a server that runs before and after them: what they printed,
    and their records."""
    known = set(milled.store.runs())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SERVER, prefect)
        processes = [start(milled.root, "run", "tiny.yaml", *set_to(*CHANGED)) for _ in range(2)]
        printed = [process.communicate(timeout=SECONDS)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    return printed, [milled.store.read_run(name) or {} for name in milled.store.runs() if name not in known]


def test_a_plan_says_what_depends_on_a_changed_key(milled: Milled) -> None:
    plan = ask(milled.root, "plan", "tiny.yaml", "--set", "quantize.seed=5", "--set", "export.title=Another")
    assert "export.title: deepmill → Another" in plan
    assert "2 of 13 stages would run" in plan


def test_two_runs_at_once_make_what_depends_on_a_changed_key_and_make_it_once(
    milled: Milled, raced: tuple[list[str], list[dict[str, Any]]]
) -> None:
    printed, records = raced
    assert any("deepmill-tiny version 2 is the champion now" in each for each in printed), printed
    assert len(records) == 2
    made = [name for record in records for name, entry in record["stages"].items() if entry["state"] == "made"]
    assert sorted(made) == ["evaluate_release", "export", "quantize"]
    assert {record["release"]["version"] for record in records} == {"2"}
    assert "version 1 is the champion again" in ask(milled.root, "rollback", "deepmill-tiny")
    with pytest.raises(UserError, match="is its first champion; there is nothing to go back to"):
        ask(milled.root, "rollback", "deepmill-tiny")
    ask(milled.root, "promote", "deepmill-tiny", "2")
    assert "champion" in ask(milled.root, "models")


def test_a_version_without_some_experts_is_judged_by_its_own_numbers(
    milled: Milled, raced: tuple[list[str], list[dict[str, Any]]]
) -> None:
    stages = raced[1][0]["stages"]
    made = {name: milled.store.path(name, stages[name]["identity"]) for name in ("evaluate", "evaluate_release")}
    whole, served = (json.loads((folder / "evaluation.json").read_text())["checkpoints"] for folder in made.values())
    base = sqlite3.connect(milled.root / "store" / "mlflow.db")
    tags = base.execute("select version, value from model_version_tags where name = 'deepmill-tiny' and key = ?", [TAG])
    facts = {version: json.loads(value) for version, value in tags}
    assert (facts[1]["measured"], facts[1]["bits_per_byte"]) == ("grpo", whole["grpo"]["bits_per_byte"])
    assert facts[2]["measured"] == "release"
    for name in ("accuracy", "accuracy_low", "accuracy_high", "format_rate", "bits_per_byte"):
        assert facts[2][name] == served["release"][name]
    assert facts[2]["bits_per_byte"] != facts[1]["bits_per_byte"]
    assert facts[2]["bits_per_byte_base"] == facts[1]["bits_per_byte_base"] == whole["pretrain"]["bits_per_byte"]
    assert facts[2]["parameters"] < facts[1]["parameters"]
    (card,) = base.execute("select description from model_versions where version = 2").fetchone()
    assert "| release | " in card
    (logged,) = base.execute("select count(*) from metrics where key = 'evaluate_release.accuracy_release'").fetchone()
    assert logged


def test_rerun_gives_the_same_bytes(milled: Milled) -> None:
    for name in ("tokenizer", "grpo"):  # `tests.flows.test_kills` makes the others again
        printed = ask(milled.root, "rerun", milled.run_id, "--stage", name)
        assert re.search(rf"{name} +same bytes", printed), printed


@pytest.fixture(scope="module")
def refused(milled: Milled, prefect: str, raced: tuple[list[str], list[dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
    """A run of what `raced` made, whose model does not pass its gates: what it printed, and its record."""
    known = set(milled.store.runs())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SERVER, prefect)
        settings = set_to(*CHANGED, "promote.min_accuracy=0.99", "registry.model=strict")
        printed = deepmill(milled.root, "run", "tiny.yaml", *settings)
    (name,) = set(milled.store.runs()) - known
    return printed, milled.store.read_run(name) or {}


def test_a_gate_that_does_not_pass_leaves_a_challenger(milled: Milled, refused: tuple[str, dict[str, Any]]) -> None:
    assert "strict version 1 stays a challenger: accuracy" in refused[0]
    texts = {gate["gate"]: gate["text"] for gate in refused[1]["release"]["gates"]}
    assert "by the served weights" in texts["accuracy"]
    with pytest.raises(UserError, match="not in the registry"):
        ask(milled.root, "chat", "strict@champion", "-q", "1")


def post(url: str, **body: Any) -> Any:
    """A POST to Prefect's API."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def runs_of(prefect: str, record: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What Prefect knows of a run: the top flow, and those below it."""
    (top,) = post(f"{prefect}/flow_runs/filter", flow_runs={"id": {"any_": [record["prefect"]["flow_run_id"]]}})
    return top, post(f"{prefect}/flow_runs/filter", flow_runs={"parent_flow_run_id": {"any_": [top["id"]]}})


def states(prefect: str, ids: list[str]) -> dict[str, str]:
    """Of the tasks of flows, by name."""
    found = post(f"{prefect}/task_runs/filter", task_runs={"flow_run_id": {"any_": ids}})
    return {run["name"]: run["state_name"] for run in found}


def test_a_server_shows_flows_tasks_and_tables(refused: tuple[str, dict[str, Any]], prefect: str) -> None:
    top, below = runs_of(prefect, refused[1])
    names = {flow["id"]: flow["name"] for flow in post(f"{prefect}/flows/filter")}
    assert names[top["flow_id"]] == "mill"
    assert sorted(names[run["flow_id"]] for run in below) == ["corpus", "finetune", "pretrain", "release"]
    assert {run["state_type"] for run in (top, *below)} == {"COMPLETED"}
    ids = [run["id"] for run in (top, *below)]
    tasks = states(prefect, ids)
    assert {tasks[name] for name in STAGES} == {"Cached"}
    assert tasks["register"] == "Completed"
    artifacts = post(f"{prefect}/artifacts/filter", artifacts={"flow_run_id": {"any_": ids}})
    assert {f"{name}-metrics" for name in STAGES} | {"gates", "run"} <= {artifact["key"] for artifact in artifacts}
    assert top["parameters"]["recipe"]["quantize"]["seed"] == 4


def test_a_server_shows_what_a_stage_that_runs_says(
    raced: tuple[list[str], list[dict[str, Any]]], prefect: str
) -> None:
    record = next(each for each in raced[1] if each["stages"]["quantize"]["state"] == "made")
    top, below = runs_of(prefect, record)
    ids = [run["id"] for run in (top, *below)]
    tasks = states(prefect, ids)
    assert (tasks["pretrain"], tasks["quantize"]) == ("Cached", "Completed")
    logs = post(f"{prefect}/logs/filter", logs={"flow_run_id": {"any_": ids}})
    assert any("calibrating" in log["message"] for log in logs)
