"""Which sources the trainings of a recipe would read more often than serves."""

from __future__ import annotations

from collections.abc import Iterator

from flows.recipe.recipe import Recipe
from pipeline.tokens.metrics import ShardMetrics
from pipeline.tokens.passes import ADVICE, repeated

__all__ = ["repeat_lines"]


def repeat_lines(recipe: Recipe, shards: ShardMetrics) -> Iterator[str]:
    """A line for each training on token shards that reads a source too often."""
    rows = {source: found.train_rows for source, found in shards.by_source.items()}
    for name in ("pretrain", "continued"):
        if not recipe.has(name):
            continue
        config = getattr(recipe, name)
        if told := repeated(rows, config.mixture, config.steps * config.batch_size):
            yield f"{name}: {told}: {ADVICE}"
