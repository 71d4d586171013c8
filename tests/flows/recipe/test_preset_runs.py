"""Every preset of reasoning and domains runs to its end, small: each stage on what the graph says it reads.

Rules, mixtures, schedules, rewards and choices of the model are the preset's own; `tests.flows.small` says what is not.
"""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from flows.recipe.stages import graph
from model.architecture.checkpoint import load_config
from pipeline.reasoning.problems import read_tasks
from tests.flows.small import small
from tests.pipeline.corpus import set_workers

PRESETS = ("maths", "code", "science", "r1", "r1-zero", "deepseekmath-7b")


@pytest.mark.parametrize("name", PRESETS)
def test_it_runs_to_its_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_workers(monkeypatch, 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # a second thread only waits, at this size
    recipe = small(name, tmp_path)
    made: dict[str, Path] = {}
    metrics: dict[str, Any] = {}
    for node in graph(recipe.has):
        stage = node.stage.name
        made[stage] = tmp_path / "made" / stage
        made[stage].mkdir(parents=True)
        module, _, function = node.stage.entrypoint.partition(":")
        inputs = {role: made[source] for role, source in node.inputs.items()}
        metrics[stage] = getattr(importlib.import_module(module), function)(getattr(recipe, stage), inputs, made[stage])
    evaluation = json.loads((made["evaluate"] / "evaluation.json").read_text())
    trained = [stage for stage in made if (made[stage] / "model").is_dir() and stage not in ("quantize", "export")]
    assert sorted(evaluation["order"]) == sorted(trained)
    for marks in evaluation["checkpoints"].values():
        assert math.isfinite(marks["loss"])
        assert set(marks["bits_per_byte"]) == set(recipe.extract.sources)
    assert metrics["grpo"].answers == 2 * 2 * 4
    assert metrics["clean"].documents_out == metrics["extract"].documents_in  # no rule breaks on such text
    if recipe.continued:
        assert math.isfinite(metrics["continued"].forgetting)
    if recipe.export:
        assert (made["export"] / "hf" / "model.safetensors").exists()
        assert list((made["export"] / "gguf").glob("*.gguf"))
    if recipe.distill:
        stages = ["pretrain", "sft", "grpo", "sft_second", "grpo_second", "student", "distill"]
        assert evaluation["order"] == stages
        assert load_config(made["distill"] / "model").model_type == "llama"
        assert {row["answer"] for row in read_tasks(made["rejection"] / "train.jsonl")}
    assert (made["evaluate"] / "samples.html").exists() == bool(recipe.evaluate.samples)
