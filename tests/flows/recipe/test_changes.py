"""The short form above the recipe's: what is given is laid over it, what is left out is as it says."""

from __future__ import annotations

import pytest

from flows.mill import mill
from flows.recipe.changes import OFTEN, Changes, laid_over
from flows.recipe.keys import find_key
from flows.recipe.recipe import load_recipe
from infra.errors import UserError


def test_what_is_left_out_is_as_the_recipe_says() -> None:
    recipe = load_recipe("sample")
    assert laid_over(recipe, Changes()) is recipe
    changed = laid_over(recipe, Changes.model_validate({"pretrain_steps": 3, "promote_alias": "night"}))
    expected = load_recipe("sample", ["pretrain.steps=3", "promote.alias=night"])
    assert changed == expected


def test_a_form_gives_it_as_prefect_reads_it() -> None:
    given = {"recipe": load_recipe("sample").model_dump(mode="json"), "changes": {"execution_workers": 1}}
    read = mill.validate_parameters(given)
    assert laid_over(read["recipe"], read["changes"]).execution.workers == 1
    assert Changes.model_validate({"sft_steps": 5}).model_dump(mode="json") == {"sft_steps": 5}


@pytest.mark.parametrize(
    ("recipe", "changes", "told"),
    [
        ("adopt", {"pretrain_steps": 5}, "changes: pretrain.steps: the recipe leaves pretrain out"),
        ("sample", {"extract_sources": {"shelf": {"kind": "book", "paths": ["a"]}}}, "changes: .*wiki"),
    ],
)
def test_what_does_not_go_with_the_rest_is_told(recipe: str, changes: dict[str, object], told: str) -> None:
    settings = ["clean.max_loss_by_source={wiki: 0.9}"] if recipe == "sample" else []
    with pytest.raises(UserError, match=told):
        laid_over(load_recipe(recipe, settings), Changes.model_validate(changes))


def test_the_form_has_one_box_for_each_with_the_keys_own_help_and_bounds() -> None:
    boxes = Changes.model_json_schema()["properties"]
    assert len(boxes) == len(OFTEN) <= 12
    for path in OFTEN:
        box = boxes[path.replace(".", "_")]
        assert (box["title"], box["description"]) == (path, find_key(path).help)
        assert box["type"] in ("integer", "number", "string", "object")
    assert boxes["pretrain_steps"]["minimum"] == 1
