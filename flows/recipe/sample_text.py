"""The sample's text where a recipe asks for it and it is not there yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flows.recipe.recipe import Recipe

__all__ = ["gather_sample_text"]

FOLDER = "data/sample"
"""Where the presets that are made of it look."""


def gather_sample_text(recipe: Recipe, tell: Callable[[str], None]) -> None:
    """Gather the sample's text if the recipe names files that lie there, and some of them are missing.

    Raises:
        UserError: it cannot be fetched, or files of somebody else are in its place.
    """
    if all(Path(path).exists() for path in _paths(recipe) if path.startswith(f"{FOLDER}/")):
        return
    from pipeline.sample.gather import gather

    gather(Path(FOLDER), tell)


def _paths(recipe: Recipe) -> list[str]:
    """Of sources, conversations and questions that are left out."""
    paths = [path for source in recipe.extract.sources.values() for path in source.paths]
    return [*paths, *recipe.reasoning.exclude, *(recipe.conversations.files if recipe.conversations else ())]
