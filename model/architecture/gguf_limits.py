"""What llama.cpp cannot compute of the models that this project does."""

from __future__ import annotations

from pathlib import Path

from model.architecture.config import Family, LinearScaling, Llama3Scaling, ModelConfig, YarnScaling
from model.architecture.gguf_names import ARCHITECTURES
from pipeline.tokens.chat import read_tokenizer
from pipeline.tokens.llama_names import unnamed

__all__ = ["unsupported"]


def unsupported(config: ModelConfig, tokenizer: Path) -> str | None:
    """Why llama.cpp cannot compute this architecture with this tokenizer's folder, or None when it can."""
    if reason := unnamed(read_tokenizer(tokenizer)):
        return reason
    if config.model_type is Family.DEEPSEEK:
        return "llama.cpp's deepseek architecture has no keys for the normalisation and the scale of the gate"
    if config.model_type is Family.DEEPSEEK_V2 and config.n_group > 1:
        return "llama.cpp ranks groups of experts as DeepSeek-V3 does, not by their best expert as V2"
    if config.model_type is Family.QWEN2 and config.head_width * config.num_attention_heads != config.hidden_size:
        return "llama.cpp's qwen2 has heads of hidden_size / num_attention_heads, and no head_dim"
    return _other_scaling(config, config.rope_scaling)


def _other_scaling(config: ModelConfig, scaling: YarnScaling | Llama3Scaling | LinearScaling | None) -> str | None:
    if isinstance(scaling, YarnScaling):
        return _other_yarn(config, scaling)
    if isinstance(scaling, Llama3Scaling) and ARCHITECTURES[config.model_type] != "llama":
        return "llama.cpp takes Llama 3.1's rotary scaling in its llama architecture alone"
    if isinstance(scaling, LinearScaling) and config.has_latent_attention:
        return "llama.cpp's latent attention scales its logits where linear rotary scaling does not"
    return None


def _other_yarn(config: ModelConfig, yarn: YarnScaling) -> str | None:
    """Where llama.cpp scales otherwise: its latent attention has one weight for both logarithms, all else none."""
    if config.has_latent_attention and (yarn.mscale != yarn.mscale_all_dim or not yarn.mscale):
        return "llama.cpp's latent attention knows YaRN with mscale and mscale_all_dim alike, and neither 0"
    if not config.has_latent_attention and yarn.mscale and yarn.mscale_all_dim:
        return "llama.cpp knows no mscale and mscale_all_dim of YaRN outside latent attention"
    return None
