"""What `plan` says of sources that a training would read too often."""

from __future__ import annotations

from flows.recipe.recipe import load_recipe
from flows.recipe.repeats import repeat_lines
from pipeline.tokens.metrics import ShardMetrics


def _shards(**rows: int) -> ShardMetrics:
    numbers = {name: 0 for name, field in ShardMetrics.model_fields.items() if field.is_required()}
    by_source = {source: {"train_rows": count} for source, count in rows.items()}
    found = ShardMetrics.read({**numbers, "dropped": {}, "by_source": by_source})
    assert found is not None
    return found


def test_a_small_source_with_a_large_weight_is_named() -> None:
    settings = ["pretrain.mixture={book: 1, web: 1}", "pretrain.steps=100", "pretrain.batch_size=10"]
    recipe = load_recipe("sample", settings)
    assert list(repeat_lines(recipe, _shards(book=1000, web=200))) == []
    (line,) = repeat_lines(recipe, _shards(book=1000, web=50))
    assert line == (
        "pretrain: web is read 10.0 times over: beyond 4 times it teaches little more (arXiv 2305.16264); "
        "lower its weight, add text, or take fewer steps"
    )
