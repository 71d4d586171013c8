"""The sample's text is gathered for recipes that are made of it, where it is missing, and for no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.recipe.recipe import Recipe, load_recipe
from flows.recipe.sample_text import CODE_FIRST, check_sample_text, gather_sample_text
from infra.errors import UserError
from pipeline.sample import gather


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gather, "MOST_PAGES", 20)


def test_it_is_gathered_once() -> None:
    said: list[str] = []
    gather_sample_text(load_recipe("sample"), said.append)
    assert len(said) == 4
    assert {path.name for path in Path("data/sample").iterdir()} >= {"wiki", "book", "chat", "web"}
    gather_sample_text(load_recipe("sample"), said.append)
    assert len(said) == 4, "what is there is left alone"


def test_other_recipes_fetch_nothing() -> None:
    other = {"name": "mine", "extract": {"sources": {"notes": {"kind": "jsonl", "paths": ["notes.jsonl"]}}}}
    gather_sample_text(Recipe.model_validate(other), lambda line: pytest.fail(line))
    assert not Path("data").exists()


def test_a_studys_text_is_written_without_the_samples() -> None:
    files = {"reasoning": {"tasks": [], "files": [f"{CODE_FIRST}/problems.jsonl"]}}
    said: list[str] = []
    for _ in range(2):
        gather_sample_text(Recipe.model_validate(files), said.append)
    assert len(said) == 1
    assert not Path("data/sample").exists()


@pytest.mark.parametrize("name", ["sample", "adopt"])
def test_a_plan_says_how_to_come_by_it(name: str) -> None:
    with pytest.raises(UserError, match=rf"^data/\S+: not gathered yet; deepmill run {name} does so"):
        check_sample_text(load_recipe(name))
    check_sample_text(Recipe())
