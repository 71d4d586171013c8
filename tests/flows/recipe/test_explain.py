"""Every key of the recipe is found, explained, and in the schema that editors read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from flows.recipe.explain import key_lines, shown_default, shown_type
from flows.recipe.keys import all_keys, find_key
from flows.recipe.recipe import Recipe, load_recipe, preset_names
from infra.errors import UserError
from tests.flows.tiny import ask

HOUSE = Path(__file__).parents[3]
KEYS = {key.path: key for key in all_keys()}


def test_every_key_is_found_and_has_its_help() -> None:
    assert len(KEYS) > 400
    for path, key in KEYS.items():
        lines = dict(key_lines(key))
        assert lines["type"], path
        assert key.help or key.name in ("kind", "engine"), f"{path} has no help"
        assert "object at 0x" not in str(lines)


def test_defaults_are_yaml_that_means_the_default() -> None:
    found = yaml.safe_load(shown_default(KEYS["grpo.kl_weight"]))
    assert found == Recipe().grpo.kl_weight  # type: ignore[union-attr]
    assert yaml.safe_load(shown_default(KEYS["shards.fim_sources"])) == list(Recipe().shards.fim_sources)
    assert shown_default(KEYS["extract.sources.<name>.paths"]) == "none: it must be given"


def test_types_are_words() -> None:
    assert shown_type(KEYS["grpo.kl_weight"]) == "number, at least 0"
    assert shown_type(KEYS["on_drift"]) == "keep | rerun"
    assert shown_type(KEYS["extract.sources.<name>.paths"]) == "list of text, at least 1 of them"


def test_where_it_is_used(tmp_path: Path) -> None:
    said = ask(tmp_path, "explain", "grpo.kl_weight")
    used = said.partition("read in: ")[2].split(",")[0]
    path, line = used.strip().split(":")
    assert ".kl_weight" in (HOUSE / path).read_text().splitlines()[int(line) - 1]
    assert "sample: 0.01" in said
    assert "extract.sources.shelf.split_chapters" in ask(tmp_path, "explain", "extract.sources.shelf")
    assert "promote" in ask(tmp_path, "explain")


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("kl_weight", "did you mean grpo.kl_weight?"),
        ("grpo.klweight", "did you mean grpo.kl_weight?"),
        ("GRPO", "did you mean grpo?"),
    ],
)
def test_a_slip_is_answered_with_the_nearest(wrong: str, hint: str) -> None:
    with pytest.raises(UserError, match=f"^{wrong}: no such key; ") as told:
        find_key(wrong)
    assert hint in str(told.value)


def test_the_schema_takes_every_preset_and_refuses_a_slip(tmp_path: Path) -> None:
    from jsonschema import Draft202012Validator

    printed = ask(tmp_path, "schema", "--to", "recipe.schema.json")
    assert "yaml-language-server" in printed
    validator = Draft202012Validator(json.loads((tmp_path / "recipe.schema.json").read_text()))
    for name in preset_names():
        validator.validate(load_recipe(name).model_dump(mode="json"))
    assert [error.message for error in validator.iter_errors({"grpo": {"klweight": 1}})]
    assert [error.message for error in validator.iter_errors({"grpo": {"kl_weight": -1}})]


def test_a_dot_at_the_end_is_as_the_shell_leaves_it() -> None:
    assert find_key("grpo.").path == "grpo"
