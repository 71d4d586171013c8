"""Rotary position embedding (arXiv 2104.09864), and YaRN (arXiv 2309.00071), which stretches it to longer contexts.

YaRN leaves fast frequencies alone, divides slow ones by the stretch, and goes over from one to the other in between;
the logits are scaled up by what the DeepSeek configs call `mscale_all_dim` (DeepSeek-V2, section 3.1.4; V3, 4.3).

Shapes: B rows, T new tokens, N heads, R rotary width, r = R / 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.architecture.config import LinearScaling, Llama3Scaling, ModelConfig, YarnScaling

__all__ = ["frequencies", "logit_scale", "rotary_tables", "rotate_halves", "rotate_interleaved"]


def rotary_tables(positions_BT: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, T, r] in fp32 of the rotary embedding of `config`."""
    amplitude = _amplitude(config.rope_scaling) if isinstance(config.rope_scaling, YarnScaling) else 1.0
    angles_BTr = positions_BT[..., None].float() * frequencies(config, positions_BT.device)
    return angles_BTr.cos() * amplitude, angles_BTr.sin() * amplitude


def frequencies(config: ModelConfig, device: torch.device | None = None) -> Tensor:
    """Radians per position [r] of each pair."""
    dim, scaling = config.rotary_dim, config.rope_scaling
    pairs_r = torch.arange(0, dim, 2, dtype=torch.float32, device=device)
    frequencies_r = 1.0 / config.rope_theta ** (pairs_r / dim)
    if isinstance(scaling, Llama3Scaling):
        return _llama3(scaling, frequencies_r)
    if scaling is None:
        return frequencies_r
    if isinstance(scaling, LinearScaling):
        return frequencies_r / scaling.factor
    kept_r = 1.0 - _ramp(scaling, dim, config.rope_theta, pairs_r / 2)
    return frequencies_r / scaling.factor * (1 - kept_r) + frequencies_r * kept_r


def _llama3(scaling: Llama3Scaling, frequencies_r: Tensor) -> Tensor:
    """Frequencies as Llama 3.1's published code stretches them."""
    turns_r = scaling.original_max_position_embeddings * frequencies_r / (2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept_r = ((turns_r - scaling.low_freq_factor) / span).clamp(0, 1)
    return frequencies_r / scaling.factor * (1 - kept_r) + frequencies_r * kept_r


def _ramp(yarn: YarnScaling, dim: int, theta: float, pairs_r: Tensor) -> Tensor:
    """How far each pair's frequency is interpolated: 0 for those that turn often in the original context, 1 for those
    that turn hardly (YaRN, section 3.2)."""

    def pair_that_turns(times: float) -> float:
        return dim * math.log(yarn.original_max_position_embeddings / (times * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair_that_turns(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_that_turns(yarn.beta_slow)), dim - 1)
    return ((pairs_r - low) / max(high - low, 0.001)).clamp(0, 1)


def _magnitude(factor: float, weight: float) -> float:
    """YaRN, Eq 15's logarithm, weighted as in the DeepSeek configs."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def _amplitude(yarn: YarnScaling) -> float:
    """Factor on cosines and sines; 1 where the two weights agree, for then `logit_scale` does all of it."""
    if yarn.mscale and yarn.mscale_all_dim:
        return _magnitude(yarn.factor, yarn.mscale) / _magnitude(yarn.factor, yarn.mscale_all_dim)
    return _magnitude(yarn.factor, 1.0)


def logit_scale(config: ModelConfig) -> float:
    """Factor that YaRN puts on the logits of latent attention, beside what is in the tables."""
    yarn = config.rope_scaling
    if not isinstance(yarn, YarnScaling) or not yarn.mscale_all_dim or not config.has_latent_attention:
        return 1.0
    return _magnitude(yarn.factor, yarn.mscale_all_dim) ** 2


def _rotate(first: Tensor, second: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def rotate_interleaved(x_BTNR: Tensor, cos_BTr: Tensor, sin_BTr: Tensor) -> Tensor:
    """Rotate the pairs (0, 1), (2, 3), ... as DeepSeek's weights have them; the result is laid out in halves."""
    cos, sin = cos_BTr[:, :, None].to(x_BTNR.dtype), sin_BTr[:, :, None].to(x_BTNR.dtype)
    return _rotate(x_BTNR[..., 0::2], x_BTNR[..., 1::2], cos, sin)


def rotate_halves(x_BTNR: Tensor, cos_BTr: Tensor, sin_BTr: Tensor) -> Tensor:
    """Rotate the pairs (0, r), (1, r + 1), ... as Llama's weights have them."""
    cos, sin = cos_BTr[:, :, None].to(x_BTNR.dtype), sin_BTr[:, :, None].to(x_BTNR.dtype)
    first, second = x_BTNR.chunk(2, dim=-1)
    return _rotate(first, second, cos, sin)
