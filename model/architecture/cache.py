"""Keys and values of the tokens already seen, for generating token by token.

One rule makes batches of unequal prompts simple: a token of position p lives in slot p of its row and sees the slots up
to p. A padding token has position -1: it goes to a spare slot that nobody sees, so prompts may be padded on either
side, and rows may grow at different speeds. Slots are written before they are seen, so nothing needs clearing.

Latent attention keeps what the paper says (DeepSeek-V2, section 2.1): the normed latent and the rotated key, together
`kv_lora_rank + qk_rope_head_dim` numbers per token and layer, whatever the number of heads.

Shapes: B rows, S slots, C latent + rotary width, G key-value heads, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.architecture.config import ModelConfig

__all__ = ["KVCache"]


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
    ) -> None:
        slots = capacity + 1  # the last one takes the padding
        shape: tuple[int, ...]
        if config.has_latent_attention:
            shape = (batch, slots, config.kv_lora_rank + config.qk_rope_head_dim)
            parts = 1
        else:
            shape = (batch, slots, config.key_value_heads, config.head_width)
            parts = 2
        self.layers: list[tuple[Tensor, ...]] = [
            tuple(torch.zeros(shape, dtype=dtype, device=device) for _ in range(parts))
            for _ in range(config.num_hidden_layers)
        ]
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
        for whole, part in zip(stored, parts_BTx, strict=True):
            whole[self._rows_B1, self._slots_BT] = part.to(whole.dtype)
        return tuple(whole[:, : self._seen] for whole in stored)

    def select(self, rows_B: Tensor) -> None:
        """Keep only `rows_B`, in that order; a row named twice is copied (sampling several answers to one prompt)."""
        self.layers = [tuple(part[rows_B] for part in parts) for parts in self.layers]
        self.lengths_B = self.lengths_B[rows_B]
        self._rows_B1 = torch.arange(len(rows_B), device=rows_B.device)[:, None]
