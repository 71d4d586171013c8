"""The language model: embedding, layers of attention and feed-forward or experts, output layer.

Modules and parameters carry the names of Hugging Face's DeepSeek and Llama classes, so a state dict is a checkpoint.
Nothing here knows of training, ranks or devices.

Shapes: B rows, T new tokens, S seen tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.attention import LatentAttention, MultiHeadAttention, RMSNorm, rotary_tables
from model.cache import KVCache
from model.config import ModelConfig
from model.moe import FeedForward, MixtureOfExperts

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

    def forward(
        self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor], mask_BTS: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotary, mask_BTS, cache)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Decoder(nn.Module):
    """Everything but the output layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, number) for number in range(config.num_hidden_layers))
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
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        for parameter in self.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=self.config.initializer_range)

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits [B, T, V] in fp32 of the token after each position.

        `documents_BT` numbers the document of each token of a packed row: a token then sees its own document only.
        Positions run on over the row all the same; rotary attention depends on their differences, so restarting them
        would change nothing but rounding. `positions_BT` overrides them; with a `cache` it also says where the tokens
        belong, -1 marking padding, and defaults to the continuation of every row.
        """
        return self.lm_head(self.hidden(tokens_BT, documents_BT, positions_BT, cache)).float()

    def hidden(
        self,
        tokens_BT: Tensor,
        documents_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """The normed last hidden state [B, T, D]: what the output layer reads."""
        length = tokens_BT.shape[1]
        mask_BTS: Tensor | None = None
        if cache is not None:
            if documents_BT is not None:
                raise ValueError("packed documents and a cache do not go together")
            if positions_BT is None:
                positions_BT = cache.next_positions(length)
            mask_BTS = cache.advance(positions_BT)
            positions_BT = positions_BT.clamp(min=0)
        elif positions_BT is None:
            positions_BT = torch.arange(length, device=tokens_BT.device)[None]
        if documents_BT is not None:
            causal_TT = torch.ones(length, length, dtype=torch.bool, device=tokens_BT.device).tril()
            mask_BTS = (documents_BT[:, :, None] == documents_BT[:, None, :]) & causal_TT
        rotary = rotary_tables(positions_BT, self.config.rotary_dim, self.config.rope_theta)
        x_BTD = self.model.embed_tokens(tokens_BT)
        for layer in self.model.layers:
            x_BTD = layer(x_BTD, rotary, mask_BTS, cache)
        return self.model.norm(x_BTD)
