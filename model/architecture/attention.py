"""Attention: plain multi-head (DeepSeek-LLM, DeepSeekMoE) and multi-head latent attention (DeepSeek-V2 and V3).

The kernel is chosen in `model.architecture.packed`. Latent attention has two forms of the same arithmetic: for many new
tokens keys and values are expanded from the latents; for few (generation) the expansion matrix is moved to the query
and output sides (the absorption of DeepSeek-V2, section 2.1.2), so that a step costs no work on the past's keys.

Shapes: B rows, T new tokens, S seen tokens, D hidden, N heads, G key-value heads, Q query width (P without position +
R rotary), V value width, C latent width. `mask` says what a token may see; with a cache it is a boolean [B, T, S].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.architecture.cache import KVCache
from model.architecture.config import ModelConfig
from model.architecture.packed import Mask, attend
from model.architecture.rotary import logit_scale, rotate_halves, rotate_interleaved

__all__ = ["LatentAttention", "MultiHeadAttention", "RMSNorm"]

ABSORB_BELOW = 8
"""New tokens per row from which on latent attention expands keys and values instead of absorbing."""


class RMSNorm(nn.Module):
    """Root mean square normalisation, computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


class MultiHeadAttention(nn.Module):
    """Multi-head attention, or grouped-query attention when there are fewer key-value heads.

    Qwen2 has a bias on what goes in, some Llamas on what comes out too; Qwen3 norms every head.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = config.num_attention_heads, config.key_value_heads, config.head_width
        bias = config.has_qkv_bias
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=config.attention_bias)
        self.has_head_norms = config.has_head_norms
        if self.has_head_norms:
            self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps)

    def forward(self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor], mask: Mask, cache: KVCache | None) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        shape = (*x_BTD.shape[:2], -1, self.head_dim)
        q_BTNQ, k_BSGQ = self.q_proj(x_BTD).view(shape), self.k_proj(x_BTD).view(shape)
        if self.has_head_norms:
            q_BTNQ, k_BSGQ = self.q_norm(q_BTNQ), self.k_norm(k_BSGQ)
        q_BTNQ, k_BSGQ = rotate_halves(q_BTNQ, *rotary), rotate_halves(k_BSGQ, *rotary)
        v_BSGQ = self.v_proj(x_BTD).view(shape)
        if cache is not None:
            k_BSGQ, v_BSGQ = cache.update(self.layer, k_BSGQ, v_BSGQ)
        return self.o_proj(attend(q_BTNQ, k_BSGQ, v_BSGQ, mask, self.head_dim**-0.5).flatten(2))


class LatentAttention(nn.Module):
    """Multi-head latent attention (MLA): keys and values are made from one small latent per token."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = config.num_attention_heads
        self.nope, self.rope, self.value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        self.latent = config.kv_lora_rank
        hidden, query = config.hidden_size, self.heads * (self.nope + self.rope)
        self.is_query_compressed = config.q_lora_rank is not None
        if config.q_lora_rank is None:
            self.q_proj = nn.Linear(hidden, query, bias=False)
        else:
            self.q_a_proj = nn.Linear(hidden, config.q_lora_rank, bias=False)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank, 1e-6)  # readers of the format use 1e-6 here, always
            self.q_b_proj = nn.Linear(config.q_lora_rank, query, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(hidden, self.latent + self.rope, bias=False)
        self.kv_a_layernorm = RMSNorm(self.latent, 1e-6)
        self.kv_b_proj = nn.Linear(self.latent, self.heads * (self.nope + self.value), bias=False)
        self.o_proj = nn.Linear(self.heads * self.value, hidden, bias=False)
        self.scale = (self.nope + self.rope) ** -0.5 * logit_scale(config)

    def forward(self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor], mask: Mask, cache: KVCache | None) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        batch, length = x_BTD.shape[:2]
        if self.is_query_compressed:
            q_BTx = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x_BTD)))
        else:
            q_BTx = self.q_proj(x_BTD)
        q_BTNP, q_BTNR = q_BTx.view(batch, length, self.heads, -1).split((self.nope, self.rope), dim=-1)
        q_BTNR = rotate_interleaved(q_BTNR, *rotary)
        c_BSC, k_BSR = self.kv_a_proj_with_mqa(x_BTD).split((self.latent, self.rope), dim=-1)
        c_BSC = self.kv_a_layernorm(c_BSC)
        k_BSR = rotate_interleaved(k_BSR[:, :, None], *rotary)[:, :, 0]
        if cache is not None:
            (stored,) = cache.update(self.layer, torch.cat((c_BSC, k_BSR), dim=-1))
            if length < ABSORB_BELOW:
                assert isinstance(mask, Tensor)
                return self.o_proj(self._absorbed(q_BTNP, q_BTNR, stored, mask))
            c_BSC, k_BSR = stored.split((self.latent, self.rope), dim=-1)

        kv_BSNx = self.kv_b_proj(c_BSC).view(batch, c_BSC.shape[1], self.heads, -1)
        k_BSNP, v_BSNV = kv_BSNx.split((self.nope, self.value), dim=-1)
        k_BSNQ = torch.cat((k_BSNP, k_BSR[:, :, None].expand(-1, -1, self.heads, -1)), dim=-1)
        q_BTNQ = torch.cat((q_BTNP, q_BTNR), dim=-1)
        return self.o_proj(attend(q_BTNQ, k_BSNQ, v_BSNV, mask, self.scale).flatten(2))

    def _absorbed(self, q_BTNP: Tensor, q_BTNR: Tensor, stored_BSx: Tensor, mask_BTS: Tensor) -> Tensor:
        """Attention over the latents themselves, as one key-value head shared by all query heads: [B, T, N V]."""
        up_NxC = self.kv_b_proj.weight.view(self.heads, self.nope + self.value, self.latent)
        up_k_NPC, up_v_NVC = up_NxC.split((self.nope, self.value), dim=1)
        q_BNTC = torch.einsum("btnp,npc->bntc", q_BTNP, up_k_NPC)
        q_BNTx = torch.cat((q_BNTC, q_BTNR.transpose(1, 2)), dim=-1)
        scores_BNTS = (q_BNTx.flatten(1, 2) @ stored_BSx.transpose(1, 2)).unflatten(1, q_BNTx.shape[1:3]) * self.scale
        scores_BNTS = scores_BNTS.masked_fill(~mask_BTS[:, None], float("-inf"))
        weights_BNTS = scores_BNTS.softmax(dim=-1, dtype=torch.float32).to(stored_BSx.dtype)
        y_BNTC = (weights_BNTS.flatten(1, 2) @ stored_BSx[..., : self.latent]).unflatten(1, q_BNTx.shape[1:3])
        return torch.einsum("bntc,nvc->btnv", y_BNTC, up_v_NVC).flatten(2)
