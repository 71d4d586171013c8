"""Keys and values of the tokens already seen, for generating token by token.

One rule makes batches of unequal prompts simple: a token of position p lives in slot p of its row and sees the slots up
to p. A padding token has position -1: it goes to a spare slot that nobody sees, so prompts may be padded on either
side, and rows may grow at different speeds. Slots are written before they are seen, so nothing needs clearing.

Latent attention keeps what the paper says (DeepSeek-V2, section 2.1): the normed latent and the rotated key, together
`kv_lora_rank + qk_rope_head_dim` numbers per token and layer, whatever the number of heads.

In 8 bits each 32 numbers of a token share a 16-bit scale, as in llama.cpp's q8_0: 8.5 bits in place of 32.

Shapes: B rows, S slots, C latent + rotary width, G key-value heads, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.architecture.config import ModelConfig

__all__ = ["KVCache", "rounded", "spread", "whole"]

GROUP = 32
"""Numbers that share a scale; all of a token's where their count does not divide."""


def rounded(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values [..., x] as int8 codes [..., x] and float16 scales [..., x / 32]."""
    groups = values.float().unflatten(-1, (-1, GROUP if values.shape[-1] % GROUP == 0 else values.shape[-1]))
    scales = (groups.abs().amax(-1) / 127).half()
    steps = scales.float()[..., None]
    codes = (groups / torch.where(steps == 0, 1.0, steps)).round().clamp(-127, 127).to(torch.int8)
    return codes.flatten(-2), scales


def spread(codes: Tensor, scales: Tensor) -> Tensor:
    """The float32 values that `rounded` codes stand for."""
    return (codes.unflatten(-1, (scales.shape[-1], -1)) * scales.float()[..., None]).flatten(-2)


def whole(stored: tuple[Tensor, ...] | list[Tensor], *, in_8_bits: bool) -> tuple[Tensor, ...]:
    """The parts of a layer as numbers to compute with: themselves, or what pairs of codes and scales stand for."""
    return tuple(map(spread, stored[::2], stored[1::2])) if in_8_bits else tuple(stored)


class KVCache:
    """Preallocated for `batch` rows of at most `capacity` tokens. Pass it to ``Transformer.forward``."""

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        in_8_bits: bool = False,
    ) -> None:
        self.in_8_bits = in_8_bits
        slots = capacity + 1  # the last one takes the padding
        shape: tuple[int, ...]
        if config.has_latent_attention:
            shape = (batch, slots, config.kv_lora_rank + config.qk_rope_head_dim)
            parts = 1
        else:
            shape = (batch, slots, config.key_value_heads, config.head_width)
            parts = 2
        self.layers: list[tuple[Tensor, ...]] = []
        """By layer the parts [B, slots, ...]; in 8 bits the codes and the scales of each, one after the other."""
        for _ in range(config.num_hidden_layers):
            plain = tuple(torch.zeros(shape, dtype=dtype, device=device) for _ in range(parts))
            self.layers.append(tuple(each for part in plain for each in rounded(part)) if in_8_bits else plain)
        self.capacity = capacity
        self.lengths_B = torch.zeros(batch, dtype=torch.int64, device=device)
        self._seen = 0
        self._rows_B1 = torch.arange(batch, device=device)[:, None]

    def next_positions(self, length: int) -> Tensor:
        """Positions [B, length] that continue every row."""
        return self.lengths_B[:, None] + torch.arange(length, device=self.lengths_B.device)

    def advance(self, positions_BT: Tensor) -> Tensor:
        """Make room for tokens at `positions_BT` (-1: padding); returns the boolean mask [B, T, S] of what each sees.

        Called once per forward pass, before the layers. ValueError when a row runs out of slots.
        """
        self.lengths_B = torch.maximum(self.lengths_B, positions_BT.amax(1) + 1)
        self._seen = int(self.lengths_B.max())
        if self._seen > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens a row, {self._seen} are needed")
        self._slots_BT = torch.where(positions_BT < 0, self.capacity, positions_BT)
        # A padding token sees slot 0, only so that its softmax is defined.
        slots_S = torch.arange(self._seen, device=positions_BT.device)
        return slots_S <= positions_BT.clamp(min=0)[:, :, None]

    def update(self, layer: int, *parts_BTx: Tensor) -> tuple[Tensor, ...]:
        """Store the new tokens' parts of one layer; returns the views [B, S, ...] of all tokens seen so far."""
        stored = self.layers[layer]
        kept = (each for part in parts_BTx for each in rounded(part)) if self.in_8_bits else parts_BTx
        for there, part in zip(stored, kept, strict=True):
            there[self._rows_B1, self._slots_BT] = part.to(there.dtype)
        seen = tuple(there[:, : self._seen] for there in stored)
        found = whole(seen, in_8_bits=self.in_8_bits)
        return tuple(each.to(part.dtype) for each, part in zip(found, parts_BTx, strict=True))

    def select(self, rows_B: Tensor) -> None:
        """Keep only `rows_B`, in that order; a row named twice is copied (sampling several answers to one prompt)."""
        self.layers = [tuple(part[rows_B] for part in parts) for parts in self.layers]
        self.lengths_B = self.lengths_B[rows_B]
        self._rows_B1 = torch.arange(len(rows_B), device=rows_B.device)[:, None]
