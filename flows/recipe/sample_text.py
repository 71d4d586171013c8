"""The sample's text, and the weights that a preset adopts, where a recipe asks for them and they are not there yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flows.recipe.recipe import Recipe

__all__ = ["gather_sample_text"]

FOLDER = "data/sample"
"""Where the presets that are made of it look."""
ADOPTED = "data/adopt"
"""Where the preset `adopt` looks for its weights and conversations."""


def gather_sample_text(recipe: Recipe, tell: Callable[[str], None]) -> None:
    """Gather the sample's text if the recipe names files that lie there, and some of them are missing.

    Raises:
        UserError: it cannot be fetched, or files of somebody else are in its place.
    """
    _gather_adopted(recipe, tell)
    if all(Path(path).exists() for path in _paths(recipe) if path.startswith(f"{FOLDER}/")):
        return
    from pipeline.sample.gather import gather

    gather(Path(FOLDER), tell)


def _gather_adopted(recipe: Recipe, tell: Callable[[str], None]) -> None:
    named = (*(recipe.start.checkpoint if recipe.start else ()), *_paths(recipe))
    if all(Path(path).exists() for path in named if path.startswith(f"{ADOPTED}/")):
        return
    from pipeline.sample.adopted import gather_adopted

    gather_adopted(Path(ADOPTED), tell)


def _paths(recipe: Recipe) -> list[str]:
    """Of sources, conversations and questions that are left out."""
    paths = [path for source in recipe.extract.sources.values() for path in source.paths]
    return [*paths, *recipe.reasoning.exclude, *(recipe.conversations.files if recipe.conversations else ())]
