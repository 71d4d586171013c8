"""One new token per row, with as few operators as the model allows: the inner loop of generation.

With small models, and with few rows of large ones, a step's time is that of calling operators and not of their
arithmetic. So the model is laid out once per batch of prompts: projections that read the same input are one matrix, the
query's scale and the order of rotary pairs go into the weights, masks and rotations are made once per step for all
layers, experts run as grouped matrix products. The numbers are those of `Transformer.forward` with the same `KVCache`,
but for rounding. Copied are the weights of attention and of the shared experts; routed experts, unless they are tiny,
and dense layers are used where they lie.

Shapes: B rows, S seen tokens, D hidden, N heads, G key-value heads, Q query width (P without position + R rotary),
C latent width, V value width, E routed experts, K experts per token, F expert width, t = B K.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from model.attention import LatentAttention, MultiHeadAttention, RMSNorm
from model.cache import KVCache
from model.moe import FeedForward, MixtureOfExperts
from model.rotary import rotary_tables
from model.transformer import Layer, Transformer

__all__ = ["Decoder"]


@dataclass(frozen=True)
class Now:
    """What all layers of a step share."""

    cache: KVCache
    slots_B: Tensor
    """Where each row's new token belongs, in a cache laid out as [B * slots, ...]."""
    seen: int
    """S: tokens of the longest row, the new one included."""
    bias_B11S: Tensor
    """0 for what a row sees, -inf for what it does not."""
    cos_B1R: Tensor
    sin_B1R: Tensor
    """Signed, for the pair's other half: ``x * cos + roll(x, R / 2) * sin`` turns x."""

    def rotate(self, x_BHR: Tensor) -> Tensor:
        """Rotary embedding of heads whose pairs lie half a width apart."""
        return torch.addcmul(x_BHR * self.cos_B1R, x_BHR.roll(x_BHR.shape[-1] // 2, -1), self.sin_B1R)

    def store(self, layer: int, *parts_Bx: Tensor) -> list[Tensor]:
        """Keep the new tokens' parts of a layer; the views [B, S, ...] of all that was seen."""
        seen = []
        for whole, part in zip(self.cache.layers[layer], parts_Bx, strict=True):
            whole.flatten(0, 1).index_copy_(0, self.slots_B, part)
            seen.append(whole[:, : self.seen])
        return seen


class Decoder:
    """`model`, laid out for steps of one token per row. Its weights must not change meanwhile."""

    def __init__(self, model: Transformer, capacity: int) -> None:
        """`capacity` is that of the caches to come."""
        self.model = model
        self.layers = [
            (_attention(layer), _feed_forward(layer))
            for layer in cast(list[Layer], model.model.layers[: model.config.num_hidden_layers])
        ]
        self.norm = _Norm(model.model.norm)
        weight = model.lm_head.weight
        self.slots_S = torch.arange(capacity, device=weight.device)
        cos_Sr, sin_Sr = (table[0] for table in rotary_tables(self.slots_S[None], model.config))
        self.cos_SR = torch.cat((cos_Sr, cos_Sr), dim=-1).to(weight.dtype)
        self.sin_SR = torch.cat((-sin_Sr, sin_Sr), dim=-1).to(weight.dtype)
        self.nothing = torch.zeros((), dtype=weight.dtype, device=weight.device)

    @torch.inference_mode()
    def __call__(self, tokens_B: Tensor, cache: KVCache) -> Tensor:
        """Logits [B, V] in fp32 after the tokens that follow each row of `cache`, which they enter."""
        now = self._now(cache)
        x_BD = self.model.model.embed_tokens(tokens_B)
        for attend, feed in self.layers:
            x_BD = feed(attend(x_BD, now))
        logits_BV: Tensor = self.model.lm_head(self.norm(x_BD)).float()
        return logits_BV

    def _now(self, cache: KVCache) -> Now:
        positions_B, slots_B, seen = cache.advance_by_one()
        hidden_BS = self.slots_S[:seen] > positions_B[:, None]
        return Now(
            cache=cache,
            slots_B=slots_B,
            seen=seen,
            bias_B11S=torch.where(hidden_BS, -torch.inf, self.nothing)[:, None, None],
            cos_B1R=self.cos_SR.index_select(0, positions_B)[:, None],
            sin_B1R=self.sin_SR.index_select(0, positions_B)[:, None],
        )


class _Norm:
    """`model.attention.RMSNorm` in four operators where the type is 32 bits."""

    def __init__(self, norm: RMSNorm) -> None:
        self.norm, self.weight_D = norm, norm.weight.detach()
        self.eps = self.weight_D.new_full((1,), norm.eps)

    def __call__(self, x_BD: Tensor) -> Tensor:
        if x_BD.dtype != torch.float32:
            normed_BD: Tensor = self.norm(x_BD)
            return normed_BD
        length_B1 = torch.linalg.vector_norm(x_BD, dim=-1, keepdim=True)
        scale_B1 = torch.addcmul(self.eps, length_B1, length_B1, value=1 / x_BD.shape[-1]).rsqrt_()
        return (x_BD * scale_B1).mul_(self.weight_D)


def _attention(layer: Layer) -> Callable[[Tensor, Now], Tensor]:
    attention = layer.self_attn
    if isinstance(attention, LatentAttention):
        return _Latent(attention, _Norm(layer.input_layernorm))
    return _MultiHead(cast(MultiHeadAttention, attention), _Norm(layer.input_layernorm))


class _MultiHead:
    """The attention half of a layer with plain heads; heads that share a key are laid out as if they were tokens."""

    def __init__(self, attention: MultiHeadAttention, norm: _Norm) -> None:
        self.layer, self.norm = attention.layer, norm
        self.heads, self.kv_heads, self.width = attention.heads, attention.kv_heads, attention.head_dim
        weights = (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
        self.in_HD = torch.cat([weight.detach() for weight in weights])
        self.out_DH = attention.o_proj.weight.detach()

    def __call__(self, x_BD: Tensor, now: Now) -> Tensor:
        """[B, D] to [B, D], the residual added."""
        all_BHQ = F.linear(self.norm(x_BD), self.in_HD).unflatten(-1, (-1, self.width))
        turned = self.heads + self.kv_heads
        qk_BHQ = now.rotate(all_BHQ[:, :turned])
        k_BSGQ, v_BSGQ = now.store(self.layer, qk_BHQ[:, self.heads :], all_BHQ[:, turned:])
        q_BGnQ = qk_BHQ[:, : self.heads].unflatten(1, (self.kv_heads, -1))
        y_BGnQ = F.scaled_dot_product_attention(
            q_BGnQ, k_BSGQ.transpose(1, 2), v_BSGQ.transpose(1, 2), now.bias_B11S, scale=self.width**-0.5
        )
        return torch.addmm(x_BD, y_BGnQ.flatten(1), self.out_DH.t())


FOLDED_AT_MOST = 1.5
"""How much larger a product of two weights may be than the two of them, to take their place."""


class _Latent:
    """The attention half of a layer with latent attention, absorbed (DeepSeek-V2, section 2.1.2).

    Where the latent is narrow the up-projections of keys and values go into those of the query and the output, once and
    for all; elsewhere they are products of their own at each step.
    """

    def __init__(self, attention: LatentAttention, norm: _Norm) -> None:
        self.layer, self.norm, self.latent_norm = attention.layer, norm, _Norm(attention.kv_a_layernorm)
        self.heads, self.nope, self.rope = attention.heads, attention.nope, attention.rope
        self.latent = attention.latent
        if attention.is_query_compressed:
            self.query_norm: _Norm | None = _Norm(attention.q_a_layernorm)
            first, query = attention.q_a_proj.weight.detach(), attention.q_b_proj.weight.detach()
        else:
            self.query_norm = None
            first, query = None, attention.q_proj.weight.detach()
        # Of each head, queries without position and rotary ones; the latter as halves, scaled like the former.
        query_NQx = (query * attention.scale).unflatten(0, (self.heads, -1))
        nope_x, rope_x = query_NQx.split((self.nope, self.rope), dim=1)
        up_NxC = attention.kv_b_proj.weight.detach().view(self.heads, -1, self.latent)
        up_k_NPC, up_v_NVC = up_NxC.split((self.nope, up_NxC.shape[1] - self.nope), dim=1)
        out_NVD = attention.o_proj.weight.detach().t().unflatten(0, (self.heads, -1))
        self.up_k_NPC = None if _folds(nope_x, up_k_NPC) else up_k_NPC
        self.up_v_NCV = None if _folds(out_NVD, up_v_NVC) else up_v_NVC.transpose(1, 2)
        if self.up_k_NPC is None:
            nope_x = up_k_NPC.transpose(1, 2) @ nope_x
        if self.up_v_NCV is None:
            out_NVD = up_v_NVC.transpose(1, 2) @ out_NVD
        self.out_xD = out_NVD.flatten(0, 1)
        self.query_width = nope_x.shape[1]
        latent_D, key_D = attention.kv_a_proj_with_mqa.weight.detach().split((self.latent, self.rope))
        # the rotary queries and the rotary key lie side by side, to be turned at once
        query_x = torch.cat((nope_x.flatten(0, 1), _halves(rope_x).flatten(0, 1)))
        key_x = torch.cat((_halves(key_D), latent_D))
        if first is None:
            self.in_xD, self.query_x = torch.cat((query_x, key_x)), None
        else:
            self.in_xD, self.query_x = torch.cat((first, key_x)), query_x

    def __call__(self, x_BD: Tensor, now: Now) -> Tensor:
        """[B, D] to [B, D], the residual added."""
        heads = self.heads
        in_Bx = F.linear(self.norm(x_BD), self.in_xD)
        if self.query_x is not None:
            assert self.query_norm is not None
            first = in_Bx.shape[1] - self.rope - self.latent
            query_Bx = F.linear(self.query_norm(in_Bx[:, :first]), self.query_x)
            in_Bx = torch.cat((query_Bx, in_Bx[:, first:]), dim=1)
        q_Bx, turned_BHR, c_BC = in_Bx.split((heads * self.query_width, (heads + 1) * self.rope, self.latent), dim=1)
        turned_BHR = now.rotate(turned_BHR.unflatten(1, (heads + 1, self.rope)))
        new_Bx = torch.cat((self.latent_norm(c_BC), turned_BHR[:, heads]), dim=1)
        (stored_BSx,) = now.store(self.layer, new_Bx)
        q_BNC = q_Bx.unflatten(1, (heads, -1))
        if self.up_k_NPC is not None:
            q_BNC = torch.bmm(q_BNC.transpose(0, 1), self.up_k_NPC).transpose(0, 1)
        q_BNx = torch.cat((q_BNC, turned_BHR[:, :heads]), dim=2)
        scores_BNS = torch.baddbmm(now.bias_B11S[:, 0], q_BNx, stored_BSx.transpose(1, 2))
        weights_BNS = scores_BNS.softmax(-1, dtype=torch.float32).to(x_BD.dtype)
        y_BNx = torch.bmm(weights_BNS, stored_BSx[:, :, : self.latent])
        if self.up_v_NCV is not None:
            y_BNx = torch.bmm(y_BNx.transpose(0, 1), self.up_v_NCV).transpose(0, 1)
        return torch.addmm(x_BD, y_BNx.flatten(1), self.out_xD)


def _folds(weight_Nxy: Tensor, up_NxC: Tensor) -> bool:
    """Whether a weight [N, x, y] and an up-projection [N, x, C] are better kept as their product [N, C, y].

    In fewer than 32 bits the product would be rounded once more.
    """
    apart = weight_Nxy.numel() + up_NxC.numel()
    folded = weight_Nxy[:, 0].numel() * up_NxC.shape[2]
    return weight_Nxy.dtype == torch.float32 and folded <= FOLDED_AT_MOST * apart


def _halves(weight: Tensor) -> Tensor:
    """Rows of rotary pairs (0, 1), (2, 3), ... in the order that puts a pair's second half a width behind its first."""
    return torch.cat((weight[..., 0::2, :], weight[..., 1::2, :]), dim=-2)


def _feed_forward(layer: Layer) -> Callable[[Tensor], Tensor]:
    norm = _Norm(layer.post_attention_layernorm)
    if isinstance(layer.mlp, MixtureOfExperts):
        return _Experts(layer.mlp, norm)
    dense = cast(FeedForward, layer.mlp)

    def feed(x_BD: Tensor) -> Tensor:
        return x_BD + dense(norm(x_BD))

    return feed


DENSE_BELOW = 20e6
"""Floating point operations that are less than the calls of operators which they save."""


class _Experts:
    """The other half of a layer with routed experts.

    Few rows of a small model go through all experts at once, those not chosen with a gate of 0 and shared ones with a
    gate of 1: arithmetic in vain, and fewer operators. Else tokens are sorted by expert, for grouped matrix products.
    """

    def __init__(self, experts: MixtureOfExperts, norm: _Norm) -> None:
        self.norm, self.gate = norm, experts.gate
        self.up_E2FD = experts.experts.gate_up_proj.detach()
        self.down_EDF = experts.experts.down_proj.detach()
        self.numbers_E = torch.arange(len(self.down_EDF), device=self.down_EDF.device)
        self.dense_rows = DENSE_BELOW / (6 * (len(self.down_EDF) - self.gate.top_k + 1) * self.down_EDF[0].numel())
        self.shared = experts.shared_experts
        if self.shared is not None:
            shared_2xD = torch.stack((self.shared.gate_proj.weight.detach(), self.shared.up_proj.weight.detach()))
            self.shared_in = shared_2xD.flatten(0, 1)
            self.shared_out = self.shared.down_proj.weight.detach().t()
        if self.dense_rows >= 1:
            self.all_in, self.all_out = self.up_E2FD.flatten(0, 1), self.down_EDF.transpose(1, 2).flatten(0, 1)
            self.gates_1e = self.all_in.new_zeros(1, len(self.down_EDF))
            if self.shared is not None:  # one after the other, each as wide as a routed one
                shared_e2FD = shared_2xD.unflatten(1, (-1, self.down_EDF.shape[2])).transpose(0, 1)
                self.all_in = torch.cat((self.all_in, shared_e2FD.flatten(0, 2)))
                self.all_out = torch.cat((self.all_out, self.shared_out))
                self.gates_1e = F.pad(self.gates_1e, (0, len(shared_e2FD)), value=1.0)

    def __call__(self, x_BD: Tensor) -> Tensor:
        """[B, D] to [B, D], the residual added."""
        y_BD = self.norm(x_BD)
        if len(x_BD) <= self.dense_rows:
            return self._dense(x_BD, y_BD, *self.gate(y_BD))
        if self.shared is not None:
            x_BD = torch.addmm(x_BD, _swiglu(F.linear(y_BD, self.shared_in)), self.shared_out)
        return self._grouped(x_BD, y_BD, *self.gate(y_BD))

    def _dense(self, x_BD: Tensor, y_BD: Tensor, gates_BK: Tensor, experts_BK: Tensor) -> Tensor:
        gates_Be = self.gates_1e.expand(len(x_BD), -1).scatter(1, experts_BK, gates_BK.to(x_BD.dtype))
        all_Be2F = F.linear(y_BD, self.all_in).unflatten(1, (gates_Be.shape[1], -1))
        inner_BeF = _swiglu(all_Be2F).mul_(gates_Be[:, :, None])
        return torch.addmm(x_BD, inner_BeF.flatten(1), self.all_out)

    def _grouped(self, x_BD: Tensor, y_BD: Tensor, gates_BK: Tensor, experts_BK: Tensor) -> Tensor:
        chosen_t, order_t = experts_BK.flatten().sort(stable=True)
        tokens_t = order_t // experts_BK.shape[1]
        ends_E = torch.searchsorted(chosen_t, self.numbers_E, right=True, out_int32=True)
        both_t2F = F.grouped_mm(y_BD.index_select(0, tokens_t), self.up_E2FD.transpose(1, 2), offs=ends_E)
        out_tD = F.grouped_mm(_swiglu(both_t2F), self.down_EDF.transpose(1, 2), offs=ends_E)
        gates_t1 = gates_BK.flatten()[order_t, None].to(out_tD.dtype)
        return x_BD.index_add(0, tokens_t, out_tD * gates_t1)


def _swiglu(both_x2F: Tensor) -> Tensor:
    gate_xF, up_xF = both_x2F.chunk(2, dim=-1)
    return F.silu(gate_xF) * up_xF
