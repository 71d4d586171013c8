"""Every preset loads; the papers' models have the published sizes, built on the meta device, and tokens."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from flows.recipe.recipe import load_recipe, preset_names
from flows.recipe.training_plan import plan_training
from model.architecture.config import ModelConfig, count_parameters
from model.architecture.transformer import Transformer


class Published(NamedTuple):
    """In units of 1e9 (parameters) and 1e12 (tokens)."""

    total: float
    active: float
    left_out: int
    """How many of the two vocabulary matrices the published active count leaves out."""
    tokens: float | None


PUBLISHED = {
    "deepseek-moe-2b": Published(2.0, 0.3, 2, 0.105),  # 25,000 steps of 4 M; the paper rounds to 100 B
    "deepseek-moe-16b": Published(16.4, 2.8, 0, 2.0),
    "deepseek-moe-145b": Published(144.6, 22.2, 0, 0.245),
    "deepseek-llm-7b": Published(6.9, 6.9, 0, 2.0),
    "deepseek-llm-67b": Published(67.4, 67.4, 0, 2.0),
    "deepseek-v2-lite": Published(15.7, 2.4, 1, 5.7),
    "deepseek-v3": Published(671.0, 36.6, 1, 14.8),  # with the output layer alone: README_WEIGHTS of the release
    "deepseekmath-7b": Published(6.9, 6.9, 0, None),
    "r1-zero": Published(671.0, 36.6, 1, None),
}
ROUNDED = {
    # Published to two digits, and fixed by the published config.json: what it holds is 1.03 % and 2.1 % more.
    "deepseek-moe-16b": 2.83,
    "deepseek-v2-lite": 2.45,
}


def _config(name: str) -> ModelConfig:
    return load_recipe(name).pretrain.model


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_on_the_meta_device(name: str) -> None:
    published, config = PUBLISHED[name], _config(name)
    with torch.device("meta"):
        model = Transformer(config)
    built = sum(parameter.numel() for parameter in model.parameters())
    assert built == count_parameters(config, prediction=True)
    total = count_parameters(config)
    assert total / 1e9 == pytest.approx(published.total, rel=0.01)
    active = count_parameters(config, active=True) - published.left_out * config.vocab_size * config.hidden_size
    assert active / 1e9 == pytest.approx(ROUNDED.get(name, published.active), rel=0.01)
    if config.num_nextn_predict_layers:
        assert (built - total) / 1e9 == pytest.approx(11.5, rel=0.01)  # README_WEIGHTS: "11.5B unique parameters"


@pytest.mark.parametrize("name", [name for name, published in PUBLISHED.items() if published.tokens])
def test_published_tokens(name: str) -> None:
    assert plan_training(load_recipe(name)).tokens / 1e12 == pytest.approx(PUBLISHED[name].tokens, rel=0.01)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_its_vocabularies_agree(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.description
    assert recipe.name == name
    if recipe.start is not None:
        assert recipe.pretrain is None
        assert recipe.tokenizer.adopt == recipe.start.checkpoint
        return
    model = recipe.pretrain.model
    assert model.vocab_size in (0, recipe.tokenizer.vocabulary)
    assert model.max_position_embeddings >= recipe.shards.sequence_length
    assert not recipe.pretrain.micro_batch or recipe.pretrain.batch_size % recipe.pretrain.micro_batch == 0


def test_the_dimensions_of_the_laptops_model_suit_k_quants() -> None:
    """Blocks of 256 weights of a row."""
    config = _config("laptop")
    heads = config.num_attention_heads * config.v_head_dim
    widths = (config.hidden_size, config.intermediate_size, config.moe_intermediate_size, config.kv_lora_rank, heads)
    assert not any(width % 256 for width in widths), widths
