"""The stage table: in order, complete, and every entry point there."""

from __future__ import annotations

import importlib

import pytest

from flows.recipe import Recipe
from flows.stages import STAGES, Family, Stage, downstream, family_stages


def test_a_stage_reads_only_what_comes_before_it() -> None:
    seen: set[str] = set()
    for row in STAGES:
        assert set(row.inputs) <= seen, row.name
        seen.add(row.name)


def test_the_families_in_turn_are_the_table() -> None:
    assert [row for family in Family for row in family_stages(family)] == list(STAGES)


@pytest.mark.parametrize("row", STAGES, ids=lambda row: row.name)
def test_entry_points_are_there(row: Stage) -> None:
    module, _, function = row.entrypoint.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert row.name in Recipe.model_fields


def test_downstream_goes_all_the_way() -> None:
    assert downstream(["quantize"]) == {"quantize", "export"}
    assert downstream(["reasoning"]) == {row.name for row in STAGES} - {"extract", "clean", "dedup"}
