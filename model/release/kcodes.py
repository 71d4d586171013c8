"""The codes inside llama.cpp's K-quant blocks: their grid read out, and other codes of ours written in.

A block of 256 weights of a row holds scales (and minima) of groups, packed, and codes; a weight is worth
``step * code + offset``. llama.cpp chooses the scales (`model.release.kquants`); the codes may then be any, which is
what GPTQ needs. Layouts are those of ``ggml-common.h``; steps and offsets are read by dequantizing two codes.
"""

from __future__ import annotations

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, QK_K, GGMLQuantizationType
from gguf import dequantize as gguf_dequantize
from torch import Tensor

__all__ = ["LIMITS", "grid_of", "with_codes"]

Type = GGMLQuantizationType
LIMITS = {Type.Q2_K: (0, 3), Type.Q3_K: (-4, 3), Type.Q4_K: (0, 15)}
"""The least and the greatest code of each type that codes can be written into."""
HIGH_BITS = slice(0, 32)
"""Of a Q3_K block: the third bit of every code."""
CODES = {Type.Q2_K: slice(16, 80), Type.Q3_K: slice(32, 96), Type.Q4_K: slice(16, 144)}
"""Where the low bits lie in a block."""


def grid_of(stored: Tensor, kind: GGMLQuantizationType) -> tuple[Tensor, Tensor]:
    """Step and offset of every weight, float32 [..., C], of blocks uint8 [..., bytes]."""
    shape = (*stored.shape[:-1], stored.shape[-1] // GGML_QUANT_SIZES[kind][1] * QK_K)

    def worth(code: int) -> Tensor:
        blocks = with_codes(stored, torch.full(shape, code), kind)
        return torch.from_numpy(gguf_dequantize(blocks.numpy(), kind))

    return worth(1) - worth(0), worth(0)


def with_codes(stored: Tensor, codes: Tensor, kind: GGMLQuantizationType) -> Tensor:
    """The blocks with other codes, int [..., C]."""
    blocks = stored.numpy().reshape(-1, GGML_QUANT_SIZES[kind][1]).copy()
    values = (codes.numpy().reshape(-1, QK_K) - LIMITS[kind][0]).astype(np.uint8)
    bits = 4 if kind is Type.Q4_K else 2
    # 32 weights side by side in as many bytes; the next 32 in the bits above
    parts = values.reshape(len(values), -1, 8 // bits, 32)
    low = np.bitwise_or.reduce((parts & ((1 << bits) - 1)) << (bits * np.arange(8 // bits))[:, None], axis=2)
    blocks[:, CODES[kind]] = low.reshape(len(values), -1)
    if kind is Type.Q3_K:
        high = (values.reshape(len(values), 8, 32) >> 2) << np.arange(8)[:, None]
        blocks[:, HIGH_BITS] = np.bitwise_or.reduce(high, axis=1)
    return torch.from_numpy(blocks).view(stored.shape)
