"""Every page that is written, at three widths, in light and dark: nothing spills, all can be read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.operations.overview import ProgressReader, overview_page
from flows.operations.schedule import Coming
from flows.report.report import write_report
from flows.run.record import RunRecord
from flows.study.report import Comparison, write_comparison
from flows.study.study import Budget, Contrast, Study
from infra.store import LocalStore
from model.evaluation.samples_page import samples_page
from model.facts.evaluation import Evaluation
from tests.flows.chromium import CHROMIUM
from tests.flows.example import EVALUATION, example_run
from tests.flows.operations.stores import publish, record
from tests.flows.screens import browser, look

pytestmark = [pytest.mark.drill, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]
LONG = "news.warc.gz: record 88123: the file breaks off; get it again, or set extract.on_damaged=skip " + "x" * 300


def _overview(folder: Path) -> Path:
    """A mill in use: nights of two recipes, one running, one that failed with more to say than a line holds."""
    _, store = example_run(folder)
    assert isinstance(store, LocalStore)
    for night in range(6):
        numbers = {"loss_sft": 4.0, "accuracy_sft": 0.1, "loss_grpo": 4.0, "accuracy_grpo": 0.5 + night / 20}
        numbers |= {"bits_per_byte_grpo_book": 2.4 - night / 30, "bits_per_byte_grpo_web": 2.6 - night / 30}
        publish(store, "evaluate", f"{night:016x}", metrics=numbers, cost={"cpu_seconds": 4000})
        facts = {"state": "failed", "error": LONG} if night == 3 else {}
        record(
            store,
            f"2026112{night}-020000-a-recipe-with-a-name-that-is-long-{night:04x}",
            {"evaluate": f"{night:016x}"},
            recipe_name="a-recipe-with-a-name-that-is-long",
            **facts,
        )
    body = record(store, "20261127-020000-running-beef", {"extract": "a" * 16}, state="running", ended=None)
    body["stages"]["pretrain"] = {"identity": "b" * 16, "state": "running", "started": body["started"]}
    store.write_run(body["run_id"], body)
    staging = store.staging("pretrain", "b" * 16)
    staging.folder.mkdir(parents=True)
    staging.events.write_text(
        '{"event":"begin","phase":"train","total":120,"unit":"steps","done":0}\n{"event":"advance","amount":43}\n'
        '{"event":"metrics","step":43,"values":{"loss":4.213}}\n'
    )
    links = {"Prefect": "http://127.0.0.1:4200", "MLflow": "http://127.0.0.1:5000"}
    page = folder / "overview.html"
    coming = [Coming("mill/sample", datetime(2026, 11, 28, 2, tzinfo=UTC))]
    page.write_text(overview_page(store, links, coming, ProgressReader()), encoding="utf-8")
    shown = page.read_text()
    assert "43 of 120 steps" in shown
    assert "<b>75 %</b>" in shown  # the last night's, of its last checkpoint
    assert "<b>2.33</b>" in shown  # the mean over its sources
    return page


def _report(folder: Path) -> Path:
    run, store = example_run(folder / "report")
    return write_report(RunRecord.model_validate(run), store, folder / "report.html")


def _study(folder: Path) -> Path:
    study = Study(
        name="gates", description="Two ways to choose an expert.", arms={"base": {}, "sigmoid": {}}, seeds=(0, 1)
    )
    costs = {arm: dict.fromkeys(Budget, 1.5e9) for arm in study.arms}
    contrasts = {"loss": [Contrast("base", (3.0, 3.2), 0.0, 0.0, 0), Contrast("sigmoid", (2.9, 3.12), -0.09, 0.127, 2)]}
    curves = {arm: [(0.0, 9.0), (50.0, 4.0), (100.0, 3.0)] for arm in study.arms}
    runs = [(arm, seed, f"20261127-0200{seed}0-gates-{arm}", [3.0]) for arm in study.arms for seed in (0, 1)]
    branches = {"base": 1.0, "sigmoid": 0.4}
    found = Comparison(study, costs, contrasts, curves, {"base": 1.4, "sigmoid": 1.2}, branches, runs)
    return write_comparison(found, folder / "study.html")


def _samples(folder: Path) -> Path:
    page = folder / "samples.html"
    page.write_text(samples_page(Evaluation.read(EVALUATION), "Greedy, at most 64 tokens."), encoding="utf-8")
    return page


def test_nothing_spills_and_all_can_be_read(tmp_path: Path) -> None:
    pages = {make.__name__: make(tmp_path) for make in (_overview, _report, _study, _samples)}
    with browser() as opened:
        found = [fault for name, page in pages.items() for fault in look(opened, page.as_uri(), tmp_path, name)]
    assert not found, "\n".join(found)
