"""Prompts that begin like earlier ones are not computed again: the next turn of a chat, questions of one system text.

Keys and values of the last few prompts are kept as they came out of the model, and copied as far as the tokens are the
same. The numbers are those of a prompt computed at once, but for rounding.

Shapes: T tokens of the prompt, V vocabulary, D hidden.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from model.architecture.cache import KVCache
from model.architecture.transformer import Transformer

__all__ = ["PrefixCache"]


class PrefixCache:
    """Of one model, for prompts one at a time."""

    def __init__(self, model: Transformer, kept: int = 4, *, in_8_bits: bool = False) -> None:
        self._model, self._most, self._in_8_bits = model, kept, in_8_bits
        self._kept: OrderedDict[tuple[int, ...], KVCache] = OrderedDict()

    @torch.inference_mode()
    def read(self, prompt: Sequence[int]) -> tuple[KVCache, Tensor, int]:
        """The cache after a prompt, the logits [V] of what follows, how many of its tokens were there already."""
        weight = self._model.lm_head.weight
        before, same = self._longest(prompt)
        kind, place = weight.dtype, weight.device
        cache = KVCache(self._model.config, 1, len(prompt), dtype=kind, device=place, in_8_bits=self._in_8_bits)
        if before is not None:
            for new, old in zip(cache.layers, before.layers, strict=True):
                for new_BSx, old_BSx in zip(new, old, strict=True):
                    new_BSx[:, :same] = old_BSx[:, :same]
            cache.lengths_B += same
        tokens_1T = torch.tensor([prompt[same:]], device=weight.device)
        hidden_1TD = self._model.hidden(tokens_1T, positions_BT=cache.next_positions(len(prompt) - same), cache=cache)
        self._kept[tuple(prompt)] = cache
        self._kept.move_to_end(tuple(prompt))
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return cache, self._model.lm_head(hidden_1TD[0, -1]).float(), same

    def _longest(self, prompt: Sequence[int]) -> tuple[KVCache | None, int]:
        """The kept prompt that shares most, and how much; the last token is always computed, for its logits."""
        found, most = None, 0
        for tokens, cache in self._kept.items():
            same = _shared(tokens, prompt[:-1])
            if same > most:
                found, most = cache, same
        return found, most


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
