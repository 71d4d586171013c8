"""What `plan` says about training: the papers' own numbers, layouts that fit, and mistakes in one line."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from flows.recipe.recipe import load_recipe
from flows.recipe.training_plan import cluster_of, layout_table, plan_training, training_lines
from infra.errors import UserError
from model.planning.cluster import RESERVED, scaling_advice, suggest, training_days


@pytest.mark.parametrize(("preset", "rate"), [("deepseek-llm-7b", 4.2e-4), ("deepseek-llm-67b", 3.2e-4)])
def test_the_scaling_laws_give_the_papers_own_choice(preset: str, rate: float) -> None:
    """DeepSeek-LLM chose rate and batch of both models by these laws (arXiv 2401.02954, table 2)."""
    plan = plan_training(load_recipe(preset))
    assert plan.learning_rate == rate
    assert plan.advice.learning_rate == pytest.approx(rate, rel=0.02)
    assert plan.advice.batch_tokens == pytest.approx(plan.batch_tokens, rel=0.06)


def test_model_and_data_of_the_laws_make_up_the_budget() -> None:
    advice = scaling_advice(1e21)
    assert advice.flops_per_token * advice.tokens == pytest.approx(1e21, rel=0.01)


def test_v3_takes_the_hours_that_were_published() -> None:
    """2.664 M hours of an H800 (arXiv 2412.19437, table 1), at the utilisation that our operations give."""
    recipe, cluster = load_recipe("deepseek-v3"), cluster_of("2048xh800", utilisation=0.41)
    tokens = plan_training(recipe).tokens
    days = training_days(recipe.pretrain.model, 4096, tokens, cluster, recompute=False)
    assert days * 24 * 2048 == pytest.approx(2.664e6, rel=0.02)


def test_layouts_fit_and_the_batch_is_whole() -> None:
    recipe, cluster = load_recipe("deepseek-moe-16b"), cluster_of("64xh100")
    found = suggest(recipe.pretrain.model, 4096, recipe.pretrain.batch_size, cluster)
    assert found == sorted(found, key=lambda each: each.step_seconds)[: len(found)]
    for each in found:
        layout = each.layout
        assert each.memory.peak <= cluster.device.memory * (1 - RESERVED)
        assert layout.rows * layout.accumulation * 64 == 4608
        assert 64 % layout.expert_parallel == 0
        assert each.sent > 0
    best = found[0].layout
    assert best.expert_parallel <= 8, "experts are exchanged within a node where that fits"
    assert not best.recompute


def test_one_device_sends_nothing() -> None:
    recipe = load_recipe("sample")
    model = recipe.pretrain.model.with_vocabulary(4096)
    best = suggest(model, 256, 8, cluster_of("1xa100"))[0]
    assert (best.layout.zero, best.layout.expert_parallel, best.sent) == (0, 1, 0.0)


@pytest.mark.parametrize(
    ("execution", "optimizer", "zero", "recompute"),
    [
        ({"ranks": 2}, "adamw", 1, False),
        ({"ranks": 2}, "muon", 0, False),
        ({"ranks": 2, "zero": 3, "recompute": True}, "adamw", 3, True),
        ({"ranks": 1, "zero": 3}, "adamw", 0, False),
        ({"ranks": 1, "zero": 2, "engine": "deepspeed"}, "adamw", 2, False),
    ],
)
def test_the_layout_is_the_one_of_the_recipe(
    execution: dict[str, object], optimizer: str, zero: int, recompute: bool
) -> None:
    wide = {"execution.expert_parallel": 1, **{f"execution.{name}": value for name, value in execution.items()}}
    settings = [f"{name}={json.dumps(value)}" for name, value in wide.items()]
    plan = plan_training(load_recipe("sample", [*settings, f"pretrain.optimizer={optimizer}"]))
    assert (plan.layout.zero, plan.layout.recompute) == (zero, recompute)
    if zero == 3:
        assert plan.memory.weights == pytest.approx(plan.parameters * 4 / 2, rel=0.01)


def test_what_is_printed() -> None:
    plan = plan_training(load_recipe("deepseek-moe-16b"), cluster_of("64xh100", price=2.0))
    text = "\n".join(training_lines(plan))
    assert "16.4 G parameters, 2.8 G active" in text
    assert "2.0 T tokens" in text
    assert "at 2 an hour" in text
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(layout_table(plan))
    assert "ZeRO-" in console.export_text()
    tight = plan_training(load_recipe("deepseek-llm-67b"), cluster_of("1xa100"))
    assert "no layout fits" in training_lines(tight)[-1]
    odd = plan_training(load_recipe("deepseek-moe-16b"), cluster_of("5xa100"))
    assert "4 would do" in training_lines(odd)[-1]


@pytest.mark.parametrize("text", ["h100", "8", "0xh100", "8xabacus"])
def test_a_cluster_written_otherwise_is_one_clear_line(text: str) -> None:
    with pytest.raises(UserError, match="write it as 8xh100"):
        cluster_of(text)
