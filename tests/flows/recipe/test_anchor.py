"""Relative paths of a recipe mean the folder where it was written down, and no identity changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.recipe.anchor import anchored
from flows.recipe.recipe import load_recipe, preset_names
from tests.flows.tiny import write_recipe


@pytest.mark.parametrize("name", preset_names())
def test_nothing_but_paths_changes(name: str) -> None:
    recipe = load_recipe(name)
    there = anchored(recipe, Path("/there"))
    assert anchored(there, Path("/elsewhere")) == there
    with_paths = ("extract", "recall", "reasoning", "conversations", "decontaminate", "tokenizer", "start", "continued")
    without = {*with_paths, "evaluate"}
    assert there.model_dump(exclude=without) == recipe.model_dump(exclude=without)


def test_every_kind_of_path(tmp_path: Path) -> None:
    settings = [
        "extract.sources.wiki.paths=[a.bz2, /abs/b.bz2, 's3://bucket/c.bz2']",
        "reasoning.files=[problems.jsonl]",
        "decontaminate.evaluation_sets=[held-out/*.jsonl]",
    ]
    recipe = anchored(load_recipe(str(write_recipe(tmp_path)), settings), Path("/there"))
    assert recipe.extract.sources["wiki"].paths == ("/there/a.bz2", "/abs/b.bz2", "s3://bucket/c.bz2")
    assert recipe.reasoning.files == ("/there/problems.jsonl",)
    assert recipe.decontaminate.evaluation_sets == ("/there/held-out/*.jsonl",)
