"""R1 as one flow of stages: continued pretraining, cold start, reinforcement, rejection sampling, fine-tuning anew,
reinforcement on all tasks, and a student. `tests.flows.recipe.test_preset_runs` runs it."""

from __future__ import annotations

from typing import Any

from flows.recipe.recipe import Recipe
from flows.recipe.stages import graph
from tests.flows.tiny import RECIPE

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
    "on_policy": {name: RECIPE["grpo"][name] for name in ("steps", "questions", "group_size", "max_new_tokens")},
    "evaluate": RECIPE["evaluate"] | {"domain": ["book"], "samples_per_problem": 2},
}


def test_who_reads_whom() -> None:
    nodes = {node.stage.name: dict(node.inputs) for node in graph(Recipe.model_validate(RECIPE | CHANGES).has)}
    assert nodes["sft"]["start"] == nodes["sft_second"]["start"] == "continued"
    assert nodes["rejection"]["start"] == "grpo"
    assert nodes["sft_second"]["reasoning"] == nodes["distill"]["reasoning"] == "rejection"
    assert nodes["grpo_second"]["start"] == "sft_second"
    assert nodes["quantize"]["model"] == "grpo_second"
    assert (nodes["on_policy"]["start"], nodes["on_policy"]["teacher"]) == ("distill", "grpo_second")
    assert nodes["evaluate"]["on_policy"] == "on_policy"
    zero = Recipe.model_validate(RECIPE | {"sft": None})
    assert {node.stage.name: dict(node.inputs) for node in graph(zero.has)}["grpo"]["start"] == "pretrain"
