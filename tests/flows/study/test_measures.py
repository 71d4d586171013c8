"""Measures of finished runs, and the page that compares them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from flows.run.record import RunRecord
from flows.run.run_view import Run
from flows.study.measures import Better, measure_of
from flows.study.report import compare, write_comparison
from flows.study.study import Study, trials
from infra.errors import UserError
from tests.flows.example import example_run


def _run(folder: Path) -> Run:
    record, store = example_run(folder)
    return Run(RunRecord.model_validate(record), store)


def test_a_finished_run_is_measured(tmp_path: Path) -> None:
    run = _run(tmp_path)
    found = {name: measure_of(name).value(run) for name in ("accuracy", "loss", "loss/sft")}
    assert found["accuracy"] == pytest.approx(47.5), "of the last checkpoint, in per cent"
    assert found["loss/sft"] < found["loss"], "at the end"
    assert measure_of("accuracy").difference(4.56, 8.123) == "+4.6 ± 8.1"
    assert measure_of("loss").difference(-0.12, None) == measure_of("loss").difference(-0.12, math.inf) == "-0.1200"
    assert measure_of("accuracy").better is Better.HIGHER
    assert measure_of("loss/sft").better is Better.LOWER
    with pytest.raises(UserError, match=r"has no accuracy, sums; its evaluation"):
        measure_of("accuracy/sums").value(run)
    with pytest.raises(UserError, match=r"has no validation loss of grpo; set grpo.validation_sequences"):
        measure_of("loss/grpo").value(run)


def test_a_page_compares_accuracies_and_losses(tmp_path: Path) -> None:
    run = _run(tmp_path)
    study = Study(
        name="pair",
        arms={"one": {}, "other": {}},
        seeds=(0,),
        only_pretrain=False,
        measures=("accuracy", "loss/sft"),
        pass_marks=("other above one",),
    )
    found = trials(study)
    comparison = compare(study, found, {(trial.arm, trial.seed): run.run_id for trial in found}, run.store)
    page = write_comparison(comparison, tmp_path / "pair.html")
    shown = page.read_text()
    assert "<td>47.5 %</td>" in shown
    assert "other above one" in shown
    assert "Validation loss of pretraining" not in shown, "no curve of what is not compared"
    numbers = json.loads(page.with_suffix(".json").read_text())
    assert [arm["measures"]["accuracy"]["values"] for arm in numbers["arms"]] == [[pytest.approx(47.5)]] * 2
    assert list(numbers["runs"][0]["values"]) == ["accuracy", "loss/sft"]
