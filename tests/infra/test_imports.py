"""What is imported is not searched for garbage."""

from __future__ import annotations

import gc
import importlib

import pytest

from infra.imports import importing


def test_what_is_made_meanwhile_is_set_aside_and_the_search_goes_on_afterwards() -> None:
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        made = [[number] for number in range(100)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made)


def test_what_cannot_be_imported_leaves_the_search_on() -> None:
    with pytest.raises(ModuleNotFoundError), importing():
        importlib.import_module("no_such_module")
    assert gc.isenabled()
