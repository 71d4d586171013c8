from __future__ import annotations

import io
import json
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.recipe.stages import graph
from flows.report.commands import next_commands
from flows.report.report import write_report
from flows.report.summary import drops, outcome, print_summary, samples
from flows.run.record import RunRecord
from flows.run.run_view import Run
from infra.store import LocalStore, Store
from model.facts.evaluation import RELEASE
from pipeline.tasks.ledger import DocumentMetrics
from tests.flows.example import EVALUATION, FILES, HOSTILE, METRICS, example_run


@pytest.fixture(autouse=True)
def _programs_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)


def printed(record: dict[str, Any], store: Store, width: int = 120, *, colours: bool = False) -> str:
    stream = io.StringIO()
    print_summary(
        Console(file=stream, width=width, force_terminal=colours, color_system="truecolor" if colours else None),
        RunRecord.model_validate(record),
        store,
    )
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_every_stage_has_its_numbers(tmp_path: Path, width: int) -> None:
    text = " ".join(printed(*example_run(tmp_path), width).split())
    for words in ("completed in 4 m 12 s", "1,960 → 1,500", "300 gopher_repetition", "4.9 M parameters",
                  "31 % → 47 %", "grpo 48 %", "19.6 MB", "version 3 is champion", "cached", "made"):  # fmt: skip
        assert all(word in text for word in words.split()), words
    assert "mlflow ui --backend-store-uri sqlite:///" in text
    assert f"DEEPMILL_ROOT={tmp_path}/store deepmill chat deepmill-sample@champion" in text
    assert "deepmill serve deepmill-sample@champion" in text
    assert "deepmill plan sample --set pretrain.steps=200" in text


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_but_commands_are_never_broken(tmp_path: Path, width: int) -> None:
    record, store = example_run(tmp_path)
    record["report"] = "/somewhere/" + "deep/" * 40 + "report.html"
    lines = printed(record, store, width).splitlines()
    assert [line for line in lines if record["report"] in line]
    assert all(len(line) <= width for line in lines if "report.html" not in line and str(tmp_path) not in line)


def test_text_of_the_model_cannot_steer_the_terminal(tmp_path: Path) -> None:
    text = printed(*example_run(tmp_path))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]" in text, "a model's answer is no markup"
    assert "<script>" in text


def test_colours_only_repeat_the_words(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    plain, coloured = printed(record, store), printed(record, store, colours=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert coloured != plain


def test_a_failed_run_says_where_and_why(tmp_path: Path) -> None:
    text = printed(*example_run(tmp_path, until="dedup", state="failed"))
    assert "failed" in text
    assert "web.warc.gz: record 7" in text
    assert "1,960 → 1,500" in text
    assert "champion" not in text
    assert "deepmill run sample" in text


def test_a_record_with_next_to_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert "running" in printed({"run_id": "r", "state": "running"}, store)
    assert printed({}, store)


def test_stages_in_order_whatever_the_order_of_the_record(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    assert list(record["stages"]) == sorted(record["stages"])
    assert [stage.name for stage in Run(RunRecord.model_validate(record), store).stages][:4] == [
        "extract",
        "clean",
        "dedup",
        "reasoning",
    ]


def test_torn_and_repeated_events(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    series = Run(RunRecord.model_validate(record), store).stage("grpo").series
    assert [step for step, _ in series["reward"]] == list(range(1, 21))


def test_broken_artifact_files_cost_only_themselves(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    run = Run(RunRecord.model_validate(record), store)
    folder = run.stage("evaluate").folder
    assert folder is not None
    (folder / "evaluation.json").write_text(json.dumps([1, 2]), encoding="utf-8")
    (store.path("quantize", run.stage("quantize").identity) / "quantization.json").write_text("{", encoding="utf-8")
    assert "4.9 M parameters" in printed(record, store)


def test_what_is_served_has_a_line_of_its_own_where_it_is_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = EVALUATION["checkpoints"]["sft"]
    sample = EVALUATION["samples"][0] | {"checkpoint": RELEASE, "question": "Of the pruned one"}
    evaluation = {"checkpoints": {RELEASE: marks}, "order": [RELEASE], "samples": [sample]}
    monkeypatch.setitem(METRICS, "evaluate_release", {})
    monkeypatch.setitem(FILES, "evaluate_release", {"evaluation.json": evaluation})
    monkeypatch.setattr("tests.flows.example.NODES", {node.stage.name: node for node in graph(METRICS.__contains__)})
    record, store = example_run(tmp_path)
    run = Run(RunRecord.model_validate(record), store)
    lines = {name: outcome(run.stage(name), run) for name in ("evaluate", "evaluate_release")}
    assert lines == {
        "evaluate": "accuracy pretrain 0 % → sft 40 % → grpo 48 % (40 % to 54 %); 200 problems",
        "evaluate_release": "accuracy grpo 48 % → release 40 % (34 % to 48 %); 200 problems",
    }
    assert [row.question for row in samples(run)] == ["Of the pruned one"]
    page = write_report(RunRecord.model_validate(record), store, tmp_path / "report.html").read_text()
    assert "as it is served, 34 % to 48 %" in page


def test_drops_are_sorted_and_samples_mixed(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    run = Run(RunRecord.model_validate(record), store)
    clean = run.stage("clean").measured_as(DocumentMetrics)
    assert clean is not None
    assert drops(clean) == [("gopher_repetition", 300), ("c4_lorem", 100), ("language", 60)]
    assert [row.correct for row in samples(run)] == [True, False]
    assert samples(run)[1].question == HOSTILE


def test_names_are_quoted_for_the_shell(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    record["root"] = "store"
    record["release"]["model"] = "my model; rm -rf"
    assert next_commands(Run(RunRecord.model_validate(record), store))[0] == "deepmill chat 'my model; rm -rf@champion'"


def test_programs_beside_this_python_are_called_by_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, store = example_run(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))  # a Python without programs beside it
    assert "\n        deepmill serve" in printed(record | {"root": "store"}, store)
    beside = tmp_path / "some venv" / "bin"
    beside.mkdir(parents=True)
    (beside / "deepmill").touch()
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    monkeypatch.chdir(tmp_path)
    assert "\n        'some venv/bin/deepmill' serve" in printed(record | {"root": "store"}, store)


def test_the_password_of_a_tracking_server_is_not_shown(tmp_path: Path) -> None:
    record, store = example_run(tmp_path)
    record["mlflow"]["uri"] = "https://me:secret@tracking.example:5000"
    text = printed(record, store)
    assert "secret" not in text
    assert "https://tracking.example:5000" in text


def test_a_run_without_a_model_offers_none_to_chat_with(tmp_path: Path) -> None:
    record = {"run_id": "r1", "state": "completed", "recipe": {"name": "corpus"}, "stages": {}}
    offered = next_commands(Run(RunRecord.model_validate(record), LocalStore(tmp_path)))
    assert [command.split()[1] for command in offered] == ["report", "plan"]


def test_artifacts_of_earlier_versions_have_their_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents counted without characters, a training without its layout, numbers that are none, a key of old."""
    metrics = METRICS | {
        "clean": {
            "documents_in": 1960,
            "documents_out": 1500,
            "dropped": {"language": 460},
            "by_source": {"web": {"documents_in": 1960, "documents_out": 1500, "dropped": 460}},
        },
        "pretrain": {"parameters": 4_900_000, "train_loss_first": 9.0, "loss_after": math.nan, "train_loss_last": 3.5},
        "grpo": {"accuracy_after": 0.47, "reward_before": "none", "layout": "single"},
    }
    monkeypatch.setattr("tests.flows.example.METRICS", metrics)
    record, store = example_run(tmp_path)
    run = Run(RunRecord.model_validate(record), store)
    lines = {name: outcome(run.stage(name), run) for name in ("clean", "pretrain", "grpo")}
    assert lines == {
        "clean": "1,960 → 1,500 documents; dropped 460 language",
        "pretrain": "4.9 M parameters; loss 9.00 → 3.50",
        "grpo": "accuracy 47 %",
    }
