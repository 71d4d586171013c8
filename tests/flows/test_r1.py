"""R1 as one flow of stages: continued pretraining, cold start, reinforcement, rejection sampling, fine-tuning anew,
reinforcement on all tasks, and a student, on a model of some ten thousand parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.plan import State, make_plan
from flows.recipe import Recipe, load_recipe
from flows.stages import graph
from infra.runner import make
from infra.settings import Settings
from infra.store import open_store
from tests.flows.tiny import RECIPE, write_recipe

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
    "continued": {"steps": 2, "batch_size": 4, "warmup_steps": 1, "validation_sequences": 2, "domain": ["notes"]},
    "sft": SFT,
    "dpo": None,
    "grpo": GRPO,
    "rejection": {"samples": 16, "max_new_tokens": 24, "temperature": 1.0, "top_p": 1.0},
    "distill": RECIPE["sft"],
    "sft_second": RECIPE["sft"],
    "grpo_second": RECIPE["grpo"],
    "evaluate": RECIPE["evaluate"] | {"domain": ["notes"], "samples_per_problem": 2},
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


@pytest.mark.timeout(300)
def test_the_whole_of_it(tmp_path: Path) -> None:
    store = open_store(Settings(root=str(tmp_path / "store")))
    recipe = load_recipe(str(write_recipe(tmp_path, **CHANGES)))
    for item in make_plan(recipe, store):
        make(store, item.job, lambda event: None, stale=lambda found: False)
        if item.stage.name == "evaluate":
            break
    (found,) = (tmp_path / "store" / "evaluate").glob("*/evaluation.json")
    evaluation = json.loads(found.read_text())
    assert evaluation["order"] == [
        "pretrain", "continued", "sft", "grpo", "sft_second", "grpo_second", "student", "distill",
    ]  # fmt: skip
    assert evaluation["decontamination"]["reasoning/test"]["removed_from_text"] is True
    assert (found.parent / "samples.html").exists()
    made = {item.stage.name: item.state for item in make_plan(recipe, store)}
    assert made.pop("quantize") == made.pop("export") == State.RUN
    assert set(made.values()) == {State.CACHED}
