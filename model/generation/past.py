"""What a growing row has seen, laid out for the inner loop of generation (`model.generation.decode`).

A `Past` has rows that grow in step by one token, and a `Stretch` is the next few tokens of a past of one row at once:
how guessed tokens are checked (`model.generation.speculative`). Attention asks both the same (`Seen`).

Shapes: B rows (of a stretch: T tokens), S seen tokens, N heads, G key-value heads (1 with latent attention), b = B G,
n = N / G, Q query width (R of it rotary).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from model.architecture.cache import KVCache, rounded, whole
from model.architecture.rotary import rotary_tables
from model.architecture.transformer import Transformer

__all__ = ["Past", "Seen", "Stretch", "paired"]


class Seen(Protocol):
    """What a layer's attention asks of the tokens that were seen, the new ones among them."""

    def rotate_(self, x_BHR: Tensor) -> None:
        """Rotary embedding, in place, of heads whose pairs lie side by side."""

    def store(self, layer: int, *parts_BGx: Tensor) -> list[Tensor]:
        """Keep the new tokens' parts of a layer; the views [b, S, x] of all that was seen."""

    def attend(self, q_BNx: Tensor, keys_bSx: Tensor, values_bSv: Tensor) -> Tensor:
        """[B, N, v]; the scale is in the queries."""


class Past:
    """What rows that grow in step have seen: their last tokens share a slot, shorter rows begin later.

    The parts of a layer are those of `KVCache`, as [B, G, slots, x], their rotary pairs side by side; in 8 bits where
    they are there.
    """

    def __init__(self, model: Transformer, cache: KVCache, rows_B: Tensor, capacity: int) -> None:
        """Take over the rows `rows_B` of `cache`, in that order and as often as named; `capacity` as there."""
        config = model.config
        self.capacity, self.seen = capacity, int(cache.lengths_B.max())
        self.first_B = self.seen - cache.lengths_B[rows_B]
        """The slot of each row's first token."""
        from_BS = (torch.arange(self.seen, device=rows_B.device) - self.first_B[:, None]).clamp(min=0)
        turned = config.qk_rope_head_dim if config.has_latent_attention else config.head_width
        self.in_8_bits = cache.in_8_bits
        self.layers: list[list[Tensor]] = []
        for parts in cache.layers[: config.num_hidden_layers]:
            self.layers.append([])
            for number, part in enumerate(whole(parts, in_8_bits=self.in_8_bits)):
                old_BSGx = part[rows_B[:, None], from_BS]
                if old_BSGx.dim() == 3:
                    old_BSGx = old_BSGx[:, :, None]
                new_BGSx = old_BSGx.new_zeros(len(rows_B), old_BSGx.shape[2], capacity, old_BSGx.shape[3])
                filled_BSGx = new_BGSx[:, :, : self.seen].transpose(1, 2)
                if number == 0:  # latents with the rotary key, or keys
                    filled_BSGx[..., :-turned] = old_BSGx[..., :-turned]
                    filled_BSGx[..., -turned:] = paired(old_BSGx[..., -turned:])
                else:
                    filled_BSGx.copy_(old_BSGx)
                self.layers[-1] += rounded(new_BGSx) if self.in_8_bits else [new_BGSx]
        # (cosine, sine) as one complex number: turning a pair is a multiplication
        self.turns_Sr = torch.complex(
            *(table[0] for table in rotary_tables(torch.arange(capacity, device=rows_B.device)[None], config))
        )
        self._settle()

    def _settle(self) -> None:
        """What stays the same until rows leave."""
        self.flat = [[part.flatten(0, 1) for part in parts] for parts in self.layers]
        self.bias_b1S: Tensor | None = None
        """-inf for the slots before a row begins, else 0; None where all rows begin in the first."""
        if bool(self.first_B.any()):
            some = self.layers[0][0]
            hidden_BS = torch.arange(self.capacity, device=some.device) < self.first_B[:, None]
            dtype = torch.float32 if self.in_8_bits else some.dtype
            bias_BS = torch.zeros_like(hidden_BS, dtype=dtype).masked_fill_(hidden_BS, -torch.inf)
            self.bias_b1S = bias_BS.repeat_interleave(some.shape[1], dim=0)[:, None]

    def select(self, rows_B: Tensor) -> None:
        """Keep only `rows_B`, in that order."""
        self.layers = [[part[rows_B] for part in parts] for parts in self.layers]
        self.first_B = self.first_B[rows_B]
        self._settle()

    def advance(self) -> None:
        """Make room for one token per row. ValueError when there is none."""
        if self.seen == self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens a row, {self.seen + 1} are needed")
        self.turns_B1r = self.turns_Sr.index_select(0, self.seen - self.first_B)[:, None]
        self.seen += 1
        self.now_b1S = None if self.bias_b1S is None else self.bias_b1S[:, :, : self.seen]

    def rewind(self, seen: int) -> None:
        """Forget all but the first `seen` slots."""
        self.seen = seen

    def rotate_(self, x_BHR: Tensor) -> None:
        """Rotary embedding, in place, of heads whose pairs lie side by side."""
        _turn(x_BHR, self.turns_B1r)

    def store(self, layer: int, *parts_BGx: Tensor) -> list[Tensor]:
        """Keep the new tokens' parts of a layer; all that was seen [b, S, x], as views unless it is in 8 bits."""
        kept = [each for part in parts_BGx for each in rounded(part)] if self.in_8_bits else parts_BGx
        for whole_BGSx, part_BGx in zip(self.layers[layer], kept, strict=True):
            whole_BGSx[:, :, self.seen - 1].copy_(part_BGx)
        return list(whole([each_bSx[:, : self.seen] for each_bSx in self.flat[layer]], in_8_bits=self.in_8_bits))

    def attend(self, q_BNx: Tensor, keys_bSx: Tensor, values_bSv: Tensor) -> Tensor:
        """[B, N, v]; the scale is in the queries."""
        q_bnx = q_BNx.reshape(len(keys_bSx), -1, q_BNx.shape[2])
        keys_bxS = keys_bSx.transpose(1, 2)
        bias_b1S = self.now_b1S
        scores_bnS = torch.bmm(q_bnx, keys_bxS) if bias_b1S is None else torch.baddbmm(bias_b1S, q_bnx, keys_bxS)
        y_bnv = torch.bmm(scores_bnS.softmax(-1, dtype=torch.float32).to(q_bnx.dtype), values_bSv)
        return y_bnv.view(len(q_BNx), -1, y_bnv.shape[2])


class Stretch:
    """The next tokens of a `Past` of one row, one after another, at once: each sees those before it."""

    def __init__(self, past: Past, tokens: int) -> None:
        """Make room for them. ValueError when there is none."""
        if past.seen + tokens > past.capacity:
            raise ValueError(f"the cache holds {past.capacity} tokens a row, {past.seen + tokens} are needed")
        self._past, self._new = past, slice(past.seen, past.seen + tokens)
        self._turns_T1r = past.turns_Sr[self._new, None]
        past.seen += tokens
        self._later_T1S: Tensor | None = None
        if tokens > 1:
            later_TS = torch.ones(tokens, past.seen, dtype=torch.bool, device=past.turns_Sr.device)
            self._later_T1S = later_TS.triu(past.seen - tokens + 1)[:, None]

    def rotate_(self, x_THR: Tensor) -> None:
        """Rotary embedding, in place, of heads whose pairs lie side by side."""
        _turn(x_THR, self._turns_T1r)

    def store(self, layer: int, *parts_TGx: Tensor) -> list[Tensor]:
        """Keep the new tokens' parts of a layer; the views [G, S, x] of all that was seen."""
        past = self._past
        kept = [each for part in parts_TGx for each in rounded(part)] if past.in_8_bits else parts_TGx
        for whole_GSx, part_TGx in zip(past.flat[layer], kept, strict=True):
            whole_GSx[:, self._new].copy_(part_TGx.transpose(0, 1))
        return list(whole([each[:, : self._new.stop] for each in past.flat[layer]], in_8_bits=past.in_8_bits))

    def attend(self, q_TNx: Tensor, keys_GSx: Tensor, values_GSv: Tensor) -> Tensor:
        """[T, N, v]; the scale is in the queries. Heads that share a key are laid out as if they were tokens."""
        q_GTnx = q_TNx.unflatten(1, (len(keys_GSx), -1)).transpose(0, 1)
        scores_GTnS = torch.bmm(q_GTnx.flatten(1, 2), keys_GSx.transpose(1, 2)).unflatten(1, q_GTnx.shape[1:3])
        if self._later_T1S is not None:
            scores_GTnS.masked_fill_(self._later_T1S, -torch.inf)
        weights_GTnS = scores_GTnS.softmax(-1, dtype=torch.float32).to(q_TNx.dtype)
        y_GTnv = torch.bmm(weights_GTnS.flatten(1, 2), values_GSv).unflatten(1, q_GTnx.shape[1:3])
        return y_GTnv.transpose(0, 1).flatten(1, 2)


def _turn(x_BHR: Tensor, turns_B1r: Tensor) -> None:
    """Multiply the pairs of `x_BHR` with complex numbers, in place."""
    if x_BHR.dtype == torch.float32 and not any(size % 2 for size in (*x_BHR.stride()[:2], x_BHR.storage_offset())):
        torch.view_as_complex(x_BHR.unflatten(-1, (-1, 2))).mul_(turns_B1r)
    else:
        pairs_BHr = torch.view_as_complex(x_BHR.float().contiguous().unflatten(-1, (-1, 2)))
        x_BHR.copy_(torch.view_as_real(pairs_BHr * turns_B1r).flatten(-2))


def paired(x: Tensor) -> Tensor:
    """Rotary pairs half a width apart, as caches have them and Llama's weights, put side by side (last dimension)."""
    return x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)
