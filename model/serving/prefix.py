"""Prompts that begin like earlier ones are not computed again: the next turn of a chat, questions of one system text.

Keys and values of the last few prompts are kept as they came out of the model, and copied as far as the tokens are the
same. The numbers are those of a prompt computed at once, but for rounding.

Shapes: T tokens of the prompt, V vocabulary, D hidden.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.architecture.cache import KVCache
from model.architecture.transformer import Transformer

__all__ = ["PrefixCache", "Prompt"]


class Prompt(NamedTuple):
    """A prompt that was read."""

    cache: KVCache
    logits_V: Tensor
    """Of what follows."""
    known: int
    """How many of its tokens were there already."""
    states_TD: Tensor
    """Normed states of its tokens; of a model without layers of multi-token prediction the last one's alone."""


class PrefixCache:
    """Of one model, for prompts one at a time."""

    def __init__(self, model: Transformer, kept: int = 4, *, in_8_bits: bool = False) -> None:
        self._model, self._most, self._in_8_bits = model, kept, in_8_bits
        self._kept: OrderedDict[tuple[int, ...], tuple[KVCache, Tensor]] = OrderedDict()

    @torch.inference_mode()
    def read(self, prompt: Sequence[int]) -> Prompt:
        """Compute a prompt, or what of it is new."""
        weight = self._model.lm_head.weight
        before, same = self._longest(prompt)
        kind, place = weight.dtype, weight.device
        cache = KVCache(self._model.config, 1, len(prompt), dtype=kind, device=place, in_8_bits=self._in_8_bits)
        states_TD = weight.new_empty(0, weight.shape[1])
        if before is not None:
            kept, states_TD = before
            for new, old in zip(cache.layers, kept.layers, strict=True):
                for new_BSx, old_BSx in zip(new, old, strict=True):
                    new_BSx[:, :same] = old_BSx[:, :same]
            cache.lengths_B += same
        tokens_1T = torch.tensor([prompt[same:]], device=weight.device)
        hidden_1TD = self._model.hidden(tokens_1T, positions_BT=cache.next_positions(len(prompt) - same), cache=cache)
        predicts = self._model.config.num_nextn_predict_layers
        states_TD = torch.cat((states_TD[:same], hidden_1TD[0])) if predicts else hidden_1TD[0, -1:]
        self._kept[tuple(prompt)] = cache, states_TD
        self._kept.move_to_end(tuple(prompt))
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return Prompt(cache, self._model.lm_head(hidden_1TD[0, -1]).float(), same, states_TD)

    def _longest(self, prompt: Sequence[int]) -> tuple[tuple[KVCache, Tensor] | None, int]:
        """The kept prompt that shares most, and how much; the last token is always computed, for its logits."""
        found, most = None, 0
        for tokens, kept in self._kept.items():
            same = _shared(tokens, prompt[:-1])
            if same > most:
                found, most = kept, same
        return found, most


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
