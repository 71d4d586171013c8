"""One new token per row, with as few operators as the model allows: the inner loop of generation.

With small models, and with few rows of large ones, a step's time is that of calling operators and not of their
arithmetic. So the model is laid out once per batch of prompts: projections that read the same input are one matrix, the
query's scale and the order of rotary pairs go into the weights, rows end in the same slot of the cache so that a step
writes one column and hides the same slots as the last, the inner products of experts lie token by column. The numbers
are those of `Transformer.forward` with a `KVCache`, but for rounding. Copied are the weights of attention and of the
shared experts; routed experts, unless they are tiny, and dense layers are used where they lie.

`StepDecoder.several` does the same for the next few tokens of one row at once.

Shapes: B rows (of a stretch: T tokens), S seen tokens, D hidden, N heads, G key-value heads (1 with latent attention),
b = B G, n = N / G, Q query width (P without position + R rotary), C latent width, V value width, E routed experts, K
experts per token, F expert width, t = B K.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from model.architecture.attention import LatentAttention, MultiHeadAttention, RMSNorm
from model.architecture.cache import KVCache
from model.architecture.moe import FeedForward, MixtureOfExperts
from model.architecture.transformer import Layer, MTPModule, Transformer
from model.generation.past import Past, Seen, Stretch, paired

__all__ = ["Predictor", "StepDecoder"]


class StepDecoder:
    """`model`, laid out for steps of one token per row. Its weights must not change meanwhile."""

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.layers = [
            (_attention(layer), _feed_forward(layer))
            for layer in cast(list[Layer], model.model.layers[: model.config.num_hidden_layers])
        ]
        self.norm = _Norm(model.model.norm)

    @torch.inference_mode()
    def __call__(self, tokens_B: Tensor, past: Past) -> Tensor:
        """Logits [B, V] in fp32 after the tokens that follow each row of `past`, which they enter."""
        past.advance()
        logits_BV: Tensor = self.model.lm_head(self._states(tokens_B, past)).float()
        return logits_BV

    @torch.inference_mode()
    def several(self, tokens_T: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """The normed states [T, D] of the next tokens of the one row of `past`, which they enter, and the logits
        [T, V] after each: those of as many steps, but for rounding."""
        states_TD = self._states(tokens_T, Stretch(past, len(tokens_T)))
        return states_TD, self.model.lm_head(states_TD).float()

    def _states(self, tokens_B: Tensor, seen: Seen) -> Tensor:
        x_BD = self.model.model.embed_tokens(tokens_B)
        for attend, feed in self.layers:
            x_BD = feed(attend(x_BD, seen))
        return self.norm(x_BD)


class Predictor:
    """A layer of multi-token prediction, laid out for one row; the model's embedding and output layer serve it."""

    def __init__(self, model: Transformer) -> None:
        """Of a model that has such a layer: its first."""
        self._model = model
        layer = cast(MTPModule, model.model.layers[model.config.prediction_layers[0]])
        self._attend, self._feed = _attention(layer), _feed_forward(layer)
        self._attend.layer = 0
        self._token_norm, self._state_norm = _Norm(layer.enorm), _Norm(layer.hnorm)
        self._norm, self._joins_DxD = _Norm(layer.shared_head.norm), layer.eh_proj.weight.detach()

    def past(self, capacity: int) -> Past:
        """Nothing seen yet, and room for so many tokens."""
        config, weight = self._model.config, self._joins_DxD
        one_layer = config.model_copy(update={"num_hidden_layers": 1})
        cache = KVCache(one_layer, 1, 0, dtype=weight.dtype, device=weight.device)
        return Past(self._model, cache, torch.zeros(1, dtype=torch.int64, device=weight.device), capacity)

    @torch.inference_mode()
    def __call__(self, states_TD: Tensor, tokens_T: Tensor, past: Past) -> Tensor:
        """Normed states [T, D], of which the output layer tells the token after the next one, from states and the
        tokens that follow them (DeepSeek-V3, Eq 21, 22)."""
        both_Tx = torch.cat(
            (self._token_norm(self._model.model.embed_tokens(tokens_T)), self._state_norm(states_TD)), 1
        )
        x_TD = self._attend(F.linear(both_Tx, self._joins_DxD), Stretch(past, len(tokens_T)))
        return self._norm(self._feed(x_TD))

    @torch.inference_mode()
    def logits(self, states_TD: Tensor) -> Tensor:
        """[T, V] in fp32."""
        logits_TV: Tensor = self._model.lm_head(states_TD).float()
        return logits_TV


class _Norm:
    """`model.architecture.attention.RMSNorm` in five operators where the type is 32 bits."""

    def __init__(self, norm: RMSNorm) -> None:
        self.norm, self.weight_D = norm, norm.weight.detach()
        self.eps = self.weight_D.new_full((1,), norm.eps)

    def __call__(self, x_BD: Tensor) -> Tensor:
        if x_BD.dtype != torch.float32:
            normed_BD: Tensor = self.norm(x_BD)
            return normed_BD
        return (x_BD * self._scale(x_BD)).mul_(self.weight_D)

    def in_place(self, x_BD: Tensor) -> None:
        """The same, written over `x_BD`."""
        if x_BD.dtype != torch.float32:
            x_BD.copy_(self.norm(x_BD))
        else:
            x_BD.mul_(self._scale(x_BD)).mul_(self.weight_D)

    def _scale(self, x_BD: Tensor) -> Tensor:
        length_B1 = torch.linalg.vector_norm(x_BD, dim=-1, keepdim=True)
        return torch.addcmul(self.eps, length_B1, length_B1, value=1 / x_BD.shape[-1]).rsqrt_()


def _attention(layer: Layer) -> _MultiHead | _Latent:
    attention = layer.self_attn
    if isinstance(attention, LatentAttention):
        return _Latent(attention, _Norm(layer.input_layernorm))
    return _MultiHead(cast(MultiHeadAttention, attention), _Norm(layer.input_layernorm))


class _MultiHead:
    """The attention half of a layer with plain heads; heads that share a key are laid out as if they were tokens."""

    def __init__(self, attention: MultiHeadAttention, norm: _Norm) -> None:
        self.layer, self.norm = attention.layer, norm
        self.heads, self.kv_heads, self.width = attention.heads, attention.kv_heads, attention.head_dim
        scale = self.width**-0.5
        in_weights = 1.0 if attention.has_head_norms else scale  # a scale before the norm would be lost
        q_NQD = attention.q_proj.weight.detach().unflatten(0, (-1, self.width)) * in_weights
        k_GQD = attention.k_proj.weight.detach().unflatten(0, (-1, self.width))
        turned_HQD = paired(torch.cat((q_NQD, k_GQD)).transpose(1, 2)).transpose(1, 2)
        self.in_HD = torch.cat((turned_HQD.flatten(0, 1), attention.v_proj.weight.detach()))
        self.bias_H: Tensor | None = None
        if attention.q_proj.bias is not None:
            q_NQ = attention.q_proj.bias.detach().unflatten(0, (-1, self.width)) * in_weights
            k_GQ = attention.k_proj.bias.detach().unflatten(0, (-1, self.width))
            self.bias_H = torch.cat((paired(torch.cat((q_NQ, k_GQ))).flatten(), attention.v_proj.bias.detach()))
        self.gains_HQ: Tensor | None = None
        if attention.has_head_norms:
            gains_2Q = torch.stack((attention.q_norm.weight.detach() * scale, attention.k_norm.weight.detach()))
            counts_2 = torch.tensor([self.heads, self.kv_heads], device=gains_2Q.device)
            self.gains_HQ, self.eps = paired(gains_2Q).repeat_interleave(counts_2, dim=0), attention.q_norm.eps
        self.out_DH = attention.o_proj.weight.detach()
        self.out_D = None if attention.o_proj.bias is None else attention.o_proj.bias.detach()

    def __call__(self, x_BD: Tensor, past: Seen) -> Tensor:
        """[B, D] to [B, D], the residual added."""
        all_BHQ = F.linear(self.norm(x_BD), self.in_HD, self.bias_H).unflatten(-1, (-1, self.width))
        turned_BHQ = all_BHQ[:, : self.heads + self.kv_heads]
        if self.gains_HQ is not None:
            turned_BHQ.copy_(F.rms_norm(turned_BHQ.float(), (self.width,), eps=self.eps) * self.gains_HQ)
        past.rotate_(turned_BHQ)
        q_BNQ, k_BGQ, v_BGQ = all_BHQ.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        k_bSQ, v_bSQ = past.store(self.layer, k_BGQ, v_BGQ)
        y_BNQ = past.attend(q_BNQ, k_bSQ, v_bSQ)
        x_BD = x_BD if self.out_D is None else x_BD + self.out_D
        return torch.addmm(x_BD, y_BNQ.flatten(1), self.out_DH.t())


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
        # Of each head, queries without position and rotary ones, scaled.
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
        query_x = torch.cat((nope_x, rope_x), dim=1).flatten(0, 1)
        key_x = attention.kv_a_proj_with_mqa.weight.detach()
        if first is None:
            self.in_xD, self.query_x = torch.cat((query_x, key_x)), None
        else:
            self.in_xD, self.query_x = torch.cat((first, key_x)), query_x

    def __call__(self, x_BD: Tensor, past: Seen) -> Tensor:
        """[B, D] to [B, D], the residual added."""
        in_Bx = F.linear(self.norm(x_BD), self.in_xD)
        if self.query_x is not None:
            assert self.query_norm is not None
            first = in_Bx.shape[1] - self.latent - self.rope
            query_Bx = F.linear(self.query_norm(in_Bx[:, :first]), self.query_x)
            in_Bx = torch.cat((query_Bx, in_Bx[:, first:]), dim=1)
        if self.up_k_NPC is None:  # queries are as wide as the key, and turned with it
            all_BHx = in_Bx.unflatten(1, (self.heads + 1, -1))
            past.rotate_(all_BHx[:, :, self.latent :])
            q_BNx, new_B1x = all_BHx[:, : self.heads], all_BHx[:, self.heads :]
        else:
            queries = in_Bx.shape[1] - self.latent - self.rope
            q_BNQ, new_B1x = in_Bx[:, :queries].unflatten(1, (self.heads, -1)), in_Bx[:, None, queries:]
            past.rotate_(q_BNQ[:, :, self.nope :])
            past.rotate_(new_B1x[:, :, self.latent :])
            q_BNC = torch.bmm(q_BNQ[:, :, : self.nope].transpose(0, 1), self.up_k_NPC).transpose(0, 1)
            q_BNx = torch.cat((q_BNC, q_BNQ[:, :, self.nope :]), dim=2)
        self.latent_norm.in_place(new_B1x[:, :, : self.latent])
        (stored_BSx,) = past.store(self.layer, new_B1x)
        y_BNx = past.attend(q_BNx, stored_BSx, stored_BSx[:, :, : self.latent])
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


def _feed_forward(layer: Layer) -> Callable[[Tensor], Tensor]:
    norm = _Norm(layer.post_attention_layernorm)
    if isinstance(layer.mlp, MixtureOfExperts):
        return _Experts(layer.mlp, norm)
    dense = cast(FeedForward, layer.mlp)
    gate_FD, up_FD, down_DF = (linear.weight.detach() for linear in (dense.gate_proj, dense.up_proj, dense.down_proj))

    def feed(x_BD: Tensor) -> Tensor:
        y_DB = norm(x_BD).t()
        inner_FB = F.silu(gate_FD @ y_DB, inplace=True).mul_(up_FD @ y_DB)
        return torch.addmm(x_BD, inner_FB.t(), down_DF.t())

    return feed


DENSE_BELOW = 20e6
"""Floating point operations that are less than the calls of operators which they save."""
DENSE_FROM = 4
"""Rows that must have that many at least: with experts so wide that fewer do, reading the weights of all of them costs
more than the calls do (512 x 256, one thread: 12.4 ms a step through all, 8.2 through the chosen ones)."""


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
        if self.dense_rows < DENSE_FROM:
            self.dense_rows = 0.0
        else:
            # first the gates of all experts, then what they gate: halves that operators run through in one go
            all_2xD = self.up_E2FD.unflatten(1, (2, -1)).transpose(0, 1).flatten(1, 2)
            self.all_out = self.down_EDF.transpose(1, 2).flatten(0, 1)
            self.gates_e1 = self.all_out.new_zeros(len(self.down_EDF), 1)
            if self.shared is not None:  # as experts of the same width as the routed ones
                all_2xD = torch.cat((all_2xD, shared_2xD), dim=1)
                self.all_out = torch.cat((self.all_out, self.shared_out))
                count = len(self.all_out) // self.down_EDF.shape[2]
                self.gates_e1 = F.pad(self.gates_e1, (0, 0, 0, count - len(self.down_EDF)), value=1.0)
            self.all_in = all_2xD.flatten(0, 1)

    def __call__(self, x_BD: Tensor) -> Tensor:
        """[B, D] to [B, D], the residual added."""
        y_BD = self.norm(x_BD)
        if len(x_BD) <= self.dense_rows:
            return self._dense(x_BD, y_BD, *self.gate(y_BD))
        if self.shared is not None:
            x_BD = torch.addmm(x_BD, _swiglu(F.linear(y_BD, self.shared_in)), self.shared_out)
        return self._grouped(x_BD, y_BD, *self.gate(y_BD))

    def _dense(self, x_BD: Tensor, y_BD: Tensor, gates_BK: Tensor, experts_BK: Tensor) -> Tensor:
        gates_eB = self.gates_e1.expand(-1, len(x_BD)).scatter(0, experts_BK.t(), gates_BK.t().to(x_BD.dtype))
        gate_xB, up_xB = torch.mm(self.all_in, y_BD.t()).chunk(2)
        inner_xB = F.silu(gate_xB, inplace=True).mul_(up_xB)
        inner_xB.view(len(gates_eB), -1, len(x_BD)).mul_(gates_eB[:, None])
        return torch.addmm(x_BD, inner_xB.t(), self.all_out)

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
