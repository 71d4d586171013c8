"""The sample's text, and the weights that a preset adopts, where a recipe asks for them and they are not there yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from flows.recipe.recipe import Recipe
from infra.errors import UserError

__all__ = ["CODE_FIRST", "check_sample_text", "gather_sample_text"]

FOLDER = "data/sample"
"""Where the presets that are made of it look."""
ADOPTED = "data/adopt"
"""Where the preset `adopt` looks for its weights and conversations."""
CODE_FIRST = "data/code-first"
"""Where the study `code-first` looks for code, exercises and problems."""


def check_sample_text(recipe: Recipe) -> None:
    """UserError where the recipe names what a run would gather first, and it is not there yet."""
    for folder, paths in ((FOLDER, _paths(recipe)), (ADOPTED, _adopted(recipe)), (CODE_FIRST, _paths(recipe))):
        if missing := _missing(folder, paths):
            raise UserError(f"{missing[0]}: not gathered yet; deepmill run {recipe.name} does so, or make sample")


def gather_sample_text(recipe: Recipe, tell: Callable[[str], None]) -> None:
    """Gather the sample's text if the recipe names files that lie there, and some of them are missing.

    Raises:
        UserError: it cannot be fetched, or files of somebody else are in its place.
    """
    _gather_adopted(recipe, tell)
    _gather_code_first(recipe, tell)
    if not _missing(FOLDER, _paths(recipe)):
        return
    from pipeline.sample.gather import gather

    gather(Path(FOLDER), tell)


def _gather_adopted(recipe: Recipe, tell: Callable[[str], None]) -> None:
    if not _missing(ADOPTED, _adopted(recipe)):
        return
    from pipeline.sample.adopted import gather_adopted

    gather_adopted(Path(ADOPTED), tell)


def _gather_code_first(recipe: Recipe, tell: Callable[[str], None]) -> None:
    if not _missing(CODE_FIRST, _paths(recipe)):
        return
    from pipeline.sample.code_first import gather_code_first

    gather_code_first(Path(CODE_FIRST), tell)


def _missing(folder: str, paths: Iterable[str]) -> list[str]:
    return [path for path in paths if path.startswith(f"{folder}/") and not Path(path).exists()]


def _adopted(recipe: Recipe) -> list[str]:
    return [*(recipe.start.checkpoint if recipe.start else ()), *_paths(recipe)]


def _paths(recipe: Recipe) -> list[str]:
    """Of sources, conversations and questions that are left out."""
    paths = [path for source in recipe.extract.sources.values() for path in source.paths]
    return [
        *paths,
        *recipe.reasoning.files,
        *recipe.reasoning.exclude,
        *(recipe.conversations.files if recipe.conversations else ()),
    ]
