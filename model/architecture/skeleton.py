"""A model of shapes alone, for weights that are read from somewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from model.architecture.config import ModelConfig
from model.architecture.transformer import Transformer

__all__ = ["empty_model", "model_of", "skeleton"]


def skeleton(config: ModelConfig) -> Transformer:
    """The model on the meta device, of shapes without numbers; ``load_state_dict(assign=True)`` gives it weights."""
    with torch.device("meta"), _NothingDrawn():
        return Transformer(config)


def model_of(config: ModelConfig, weights: Mapping[str, Tensor]) -> Transformer:
    """The model that has `weights` themselves and no copies of them, in eval mode; where the configuration says so its
    output layer is the embedding, and `weights` need not have one.

    Raises:
        RuntimeError: they are not the ones that it has.
    """
    model = skeleton(config)
    tied = {"lm_head.weight": weights["model.embed_tokens.weight"]} if config.tie_word_embeddings else {}
    model.load_state_dict({**weights, **tied}, assign=True)
    if tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model.eval()


def empty_model(config: ModelConfig) -> Transformer:
    """The model in memory, with whatever numbers lie there, for weights that are copied into it.

    Torch's `to_empty` on a skeleton would import its compiler's symbolic shapes, half a second of a processor.
    """
    with _NothingDrawn():
        return Transformer(config)


class _NothingDrawn(TorchFunctionMode):
    """Torch draws for the meta device by way of its compiler, whose import takes a second of a processor."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if function.__name__ in ("normal_", "kaiming_uniform_", "uniform_"):
            return args[0] if args else given["tensor"]
        return function(*args, **given)
