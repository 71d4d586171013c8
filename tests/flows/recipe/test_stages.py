"""The stage table: in order, complete, and every entry point there."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from flows.recipe.recipe import Recipe
from flows.recipe.stages import STAGES, Family, Stage, downstream, graph
from infra.errors import UserError
from model.evaluation.sections import EvaluateReleaseConfig


def test_a_stage_reads_only_what_comes_before_it() -> None:
    seen: set[str] = set()
    for row in STAGES:
        assert {name for each in row.inputs for name in each.choices} <= seen, row.name
        seen.add(row.name)


def test_the_families_in_turn_are_the_table() -> None:
    assert [row for family in Family for row in STAGES if row.family is family] == list(STAGES)


@pytest.mark.parametrize("row", STAGES, ids=lambda row: row.name)
def test_entry_points_are_there(row: Stage) -> None:
    module, _, function = row.entrypoint.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert row.name in (*Recipe.model_fields, "evaluate_release")


def test_downstream_goes_all_the_way() -> None:
    nodes = graph(Recipe().has)
    everything = {node.stage.name for node in nodes}
    assert downstream(["quantize"], nodes) == {"quantize", "export"}
    assert downstream(["reasoning"], nodes) == everything - {"extract", "clean", "dedup"}


def test_a_role_is_filled_by_the_first_stage_that_the_recipe_has() -> None:
    left_out = {node.stage.name: dict(node.inputs) for node in graph(Recipe(grpo=None).has)}
    assert "grpo" not in left_out
    assert left_out["quantize"]["model"] == "sft"
    assert "grpo" not in left_out["evaluate"]
    assert {node.stage.name: node for node in graph(Recipe().has)}["quantize"].inputs["model"] == "grpo"


@pytest.mark.parametrize(
    ("changes", "served"),
    [
        ({}, None),
        ({"quantize": {"prune": {"share": 0.25}}}, "int4"),
        ({"quantize": {"min_token_count": 1}, "export": {"precision": "int8"}}, "int8"),
        ({"quantize": {"k_quants": True}}, "int4"),
        ({"quantize": {"experts": "q3_k"}}, "int4"),
        ({"quantize": {"experts": "q3_k"}, "export": {"precision": "int8"}}, None),
        ({"quantize": {"experts": "q4_k", "linear": "q6_k"}}, None),
        ({"quantize": {"prune": {"share": 0.25}}, "export": None}, None),
        ({"quantize": {"prune": {"share": 0.25}}, "export": None, "evaluate": None}, None),
    ],
)
def test_what_is_served_is_evaluated_where_it_is_another_model(changes: dict[str, Any], served: str | None) -> None:
    """And only there: the inputs of `export`, and so its identity, stay what they were."""
    recipe = Recipe.model_validate({"evaluate": {"problems": 7}} | changes)
    nodes = {node.stage.name: dict(node.inputs) for node in graph(recipe.has)}
    section = recipe.section("evaluate_release")
    assert (section is not None) == recipe.has("evaluate_release") == ("evaluate_release" in nodes) == bool(served)
    assert ("evaluate_release" in nodes.get("export", {})) == bool(served)
    if isinstance(section, EvaluateReleaseConfig):
        assert (section.problems, section.precision) == (7, served)
        assert downstream(["evaluate_release"], graph(recipe.has)) == {"evaluate_release", "export"}


def test_fine_tuning_may_start_from_any_checkpoint() -> None:
    """The recipe says no more than where it is: nothing is pretrained, and its tokenizer is adopted."""
    recipe = Recipe.model_validate({"start": {"checkpoint": "/models/base"}})
    nodes = {node.stage.name: dict(node.inputs) for node in graph(recipe.has)}
    assert recipe.tokenizer.adopt == recipe.start.checkpoint == ("/models/base",)
    assert {"pretrain", "continued"}.isdisjoint(nodes)
    assert nodes["sft"]["start"] == nodes["evaluate"]["start"] == "start"
    without = Recipe.model_validate({"start": {"checkpoint": "/models/base"}, "sft": None})
    assert {node.stage.name: node for node in graph(without.has)}["grpo"].inputs["start"] == "start"
    other = Recipe.model_validate({"start": {"checkpoint": ["/a"]}, "tokenizer": {"adopt": ["/b"]}})
    assert other.tokenizer.adopt == ("/b",)
    with pytest.raises(ValueError, match="leave one out"):
        Recipe.model_validate({"start": {"checkpoint": "/models/base"}, "pretrain": {"steps": 1}})


def test_a_stage_that_another_one_reads_cannot_be_left_out() -> None:
    with pytest.raises(
        UserError, match=r"export reads quantize, which the recipe leaves out; leave out export as well"
    ):
        graph(Recipe(quantize=None).has)


def test_metrics_of_any_version_are_read() -> None:
    for row in STAGES:
        found = row.metrics.read({"weather": "fine", "steps": "many", "loss": float("nan")})
        assert found is None or isinstance(found, row.metrics)
