"""R1 as one flow of stages: continued pretraining, cold start, reinforcement, rejection sampling, fine-tuning anew,
reinforcement on all tasks, and a student, on a model of some ten thousand parameters."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from flows.recipe.recipe import Recipe
from flows.recipe.stages import Family, graph
from model.architecture.checkpoint import load_config
from pipeline.reasoning.stage import read_tasks
from tests.flows.tiny import RECIPE
from tests.model.artifacts import make_artifacts

SFT = RECIPE["sft"] | {"steps": 60, "learning_rate": 1e-2, "max_new_tokens": 24}
GRPO = RECIPE["grpo"] | {"max_new_tokens": 24}
DENSE = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
CHANGES: dict[str, Any] = {
    "name": "r1",
    "student": RECIPE["pretrain"] | {"steps": 2, "model": DENSE},
    "continued": {"steps": 2, "batch_size": 4, "warmup_steps": 1, "validation_sequences": 2, "domain": ["book"]},
    "sft": SFT,
    "dpo": None,
    "grpo": GRPO,
    "rejection": {"samples": 16, "max_new_tokens": 24, "temperature": 1.0, "top_p": 1.0},
    "distill": RECIPE["sft"],
    "sft_second": RECIPE["sft"],
    "grpo_second": RECIPE["grpo"],
    "evaluate": RECIPE["evaluate"] | {"domain": ["book"], "samples_per_problem": 2},
}


def test_who_reads_whom() -> None:
    nodes = {node.stage.name: dict(node.inputs) for node in graph(Recipe.model_validate(RECIPE | CHANGES).has)}
    assert nodes["sft"]["start"] == nodes["sft_second"]["start"] == "continued"
    assert nodes["rejection"]["start"] == "grpo"
    assert nodes["sft_second"]["reasoning"] == nodes["distill"]["reasoning"] == "rejection"
    assert nodes["grpo_second"]["start"] == "sft_second"
    assert nodes["quantize"]["model"] == "grpo_second"
    zero = Recipe.model_validate(RECIPE | {"sft": None})
    assert {node.stage.name: dict(node.inputs) for node in graph(zero.has)}["grpo"]["start"] == "pretrain"


def test_the_whole_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage of the graph on what the graph says it reads, in this process."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # a second thread only waits, at this size
    made = make_artifacts(tmp_path)
    for name in ("pretrain", "sft", "grpo"):
        del made[name]
    recipe = Recipe.model_validate(RECIPE | CHANGES)
    for node in graph(recipe.has):
        name = node.stage.name
        if node.stage.family not in (Family.PRETRAIN, Family.FINETUNE):
            continue
        made[name] = tmp_path / "made" / name
        made[name].mkdir(parents=True)
        module, _, function = node.stage.entrypoint.partition(":")
        inputs = {role: made[source] for role, source in node.inputs.items()}
        getattr(importlib.import_module(module), function)(getattr(recipe, name), inputs, made[name])
    evaluation = json.loads((made["evaluate"] / "evaluation.json").read_text())
    assert evaluation["order"] == [
        "pretrain", "continued", "sft", "grpo", "sft_second", "grpo_second", "student", "distill",
    ]  # fmt: skip
    assert load_config(made["distill"] / "model").model_type == "llama"
    assert {row["answer"] for row in read_tasks(made["rejection"] / "train.jsonl")}
    assert (made["evaluate"] / "samples.html").exists()
