"""The sample's text where a recipe asks for it and it is not there yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flows.recipe.recipe import Recipe

__all__ = ["gather_sample_text"]

FOLDER = "data/sample"
"""Where the presets that are made of it look."""


def gather_sample_text(recipe: Recipe, tell: Callable[[str], None]) -> None:
    """Gather the sample's text if a source of the recipe lies there and nothing does yet.

    Raises:
        UserError: it cannot be fetched.
    """
    paths = [path for source in recipe.extract.sources.values() for path in source.paths]
    if Path(FOLDER).exists() or not any(path.startswith(f"{FOLDER}/") for path in paths):
        return
    from pipeline.sample.gather import gather

    gather(Path(FOLDER), tell)
