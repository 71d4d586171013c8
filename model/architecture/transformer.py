"""The language model: embedding, layers of attention and feed-forward or experts, output layer.

Modules and parameters carry the names of Hugging Face's DeepSeek and Llama classes, so a state dict is a checkpoint.
Nothing here knows of training, ranks or devices.

Shapes: B rows, T new tokens, S seen tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.architecture.attention import LatentAttention, MultiHeadAttention, RMSNorm
from model.architecture.cache import KVCache
from model.architecture.config import ModelConfig
from model.architecture.moe import FeedForward, MixtureOfExperts
from model.architecture.output import Learned, OutputLayer
from model.architecture.packed import Mask, document_mask
from model.architecture.rotary import rotary_tables
from model.architecture.varlen import Kernel

__all__ = ["Transformer"]


class Layer(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, config: ModelConfig, number: int) -> None:
        super().__init__()
        attention = LatentAttention if config.has_latent_attention else MultiHeadAttention
        self.self_attn = attention(config, number)
        self.mlp: nn.Module
        if config.is_moe_layer(number):
            self.mlp = MixtureOfExperts(config)
        else:
            self.mlp = FeedForward(config.hidden_size, config.intermediate_size)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor], mask: Mask, cache: KVCache | None) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotary, mask, cache)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class SharedHead(nn.Module):
    """The norm before the output layer of an MTP module; the output layer itself is the model's own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class MTPModule(Layer):
    """One depth of multi-token prediction (DeepSeek-V3, section 2.2).

    From what the depth before knows at position i and the token k places on, to the token after that.
    """

    def __init__(self, config: ModelConfig, number: int) -> None:
        super().__init__(config, number)
        self.enorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.hnorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.eh_proj = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.shared_head = SharedHead(config)

    def forward(  # type: ignore[override]
        self, before_BTD: Tensor, next_BTD: Tensor, rotary: tuple[Tensor, Tensor], mask: Mask
    ) -> Tensor:
        """Normed states [B, T, D] from those of the depth before (Eq 21, 22) and the embeddings of the later tokens."""
        x_BTD = self.eh_proj(torch.cat((self.enorm(next_BTD), self.hnorm(before_BTD)), dim=-1))
        return self.shared_head.norm(super().forward(x_BTD, rotary, mask, None))


class Decoder(nn.Module):
    """Everything but the output layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, number) for number in range(config.num_hidden_layers))
        self.layers.extend(MTPModule(config, number) for number in config.prediction_layers)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """A causal language model of the DeepSeek or Llama families.

    Weights are drawn from torch's global generator (normal, std `initializer_range`): seed it for reproducible ones.
    On the meta device nothing is drawn.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not config.vocab_size:
            raise ValueError("vocab_size is 0: fill it in with ModelConfig.with_vocabulary")
        self.config = config
        self.recomputes = False
        """Activation checkpointing: layers keep their input alone and run again in the backward pass."""
        self.kernel = Kernel.TORCH
        """Of attention over packed documents on a GPU."""
        self.model = Decoder(config)
        self.lm_head = OutputLayer(config.hidden_size, config.vocab_size)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=self.config.initializer_range)
            elif name.endswith(".bias"):
                parameter.zero_()

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        cache: KVCache | None = None,
        mtp: bool = False,
        targets: Sequence[Tensor | Learned] | None = None,
        starts: Sequence[Tensor] | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Logits [B, T, V] in fp32 of the token after each position.

        `documents_BT` numbers the document of each token of a packed row: a token then sees its own document only.
        Positions run on over the row all the same; rotary attention depends on their differences, so restarting them
        would change nothing but rounding. `positions_BT` overrides them; with a `cache` it also says where the tokens
        belong, -1 marking padding, and defaults to the continuation of every row; with `documents_BT` it says that the
        documents of a row branch off from its document -1 (`model.architecture.packed.BEGINNING`), which all of them
        see.

        With `mtp`, a tuple: these logits, then for each depth k of multi-token prediction the logits [B, T - k, V]
        of the token k + 1 places after each position.

        With `targets` [B, T - k] for k = 0 and as many depths as are wanted, a tuple of their summed losses instead
        (`model.architecture.output`). `starts`, of the rows without their last k tokens, is what
        `model.architecture.packed.document_starts` found of `documents_BT` before it went to a device.
        """
        h_BTD = self.hidden(tokens_BT, documents_BT, positions_BT, cache, starts)
        states = [h_BTD]
        if mtp or (targets and len(targets) > 1):
            states += self.mtp_hidden_states(h_BTD, tokens_BT, documents_BT, starts)
        if targets is not None:
            return tuple(self.lm_head(x_BtD, wanted) for x_BtD, wanted in zip(states, targets, strict=True))
        logits = tuple(self.lm_head(x_BtD).float() for x_BtD in states)
        return logits if mtp else logits[0]

    def hidden(
        self,
        tokens_BT: Tensor,
        documents_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        cache: KVCache | None = None,
        starts: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """The normed last hidden state [B, T, D]: what the output layer reads."""
        mask: Mask = None
        branches = positions_BT is not None
        if cache is not None:
            if documents_BT is not None:
                raise ValueError("packed documents and a cache do not go together")
            if positions_BT is None:
                positions_BT = cache.next_positions(tokens_BT.shape[1])
            mask = cache.advance(positions_BT)
            positions_BT = positions_BT.clamp(min=0)
        elif positions_BT is None:
            positions_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)[None]
        if documents_BT is not None:
            mask = self._document_mask(documents_BT, starts, branches=branches)
        rotary = rotary_tables(positions_BT, self.config)
        x_BTD = self.model.embed_tokens(tokens_BT)
        for layer in self.model.layers[: self.config.num_hidden_layers]:
            x_BTD = self._run(layer, x_BTD, rotary, mask, cache)
        return self.model.norm(x_BTD)

    def mtp_hidden_states(
        self,
        h_BTD: Tensor,
        tokens_BT: Tensor,
        documents_BT: Tensor | None = None,
        starts: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """The normed states [B, T - k, D] of each depth k = 1, 2, ... of multi-token prediction.

        `h_BTD` is what `hidden` made of the same tokens. State i of depth k, through the output layer, predicts token
        i + k + 1; it must not be learned where that or token i + k is of another document.
        """
        states: list[Tensor] = []
        for depth, layer in enumerate(self.model.layers[self.config.num_hidden_layers :], 1):
            h_BTD = h_BTD[:, : tokens_BT.shape[1] - depth]
            positions_BT = torch.arange(h_BTD.shape[1], device=tokens_BT.device)[None]
            mask: Mask = None
            if documents_BT is not None:
                mask = self._document_mask(documents_BT[:, : h_BTD.shape[1]], starts and starts[depth:])
            rotary = rotary_tables(positions_BT, self.config)
            h_BTD = self._run(layer, h_BTD, self.model.embed_tokens(tokens_BT[:, depth:]), rotary, mask)
            states.append(h_BTD)
        return states

    def _run(self, layer: nn.Module, *inputs: object) -> Tensor:
        if self.recomputes and torch.is_grad_enabled():
            # ZeRO-3 frees weights between the passes, so their shapes differ where torch would compare them.
            recomputed: Tensor = checkpoint(
                layer, *inputs, use_reentrant=False, preserve_rng_state=False, determinism_check="none"
            )
            return recomputed
        output: Tensor = layer(*inputs)
        return output

    def _document_mask(
        self, documents_BT: Tensor, starts: Sequence[Tensor] | None = None, *, branches: bool = False
    ) -> Mask:
        kind = documents_BT.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.lm_head.weight.dtype
        first = starts[0] if starts else None
        width = self.config.attention_width
        return document_mask(documents_BT, dtype, width, branches=branches, starts_M1=first, kernel=self.kernel)
