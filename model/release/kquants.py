"""llama.cpp's Q4_K_M: its own quantizer's kernels, weighed with what our calibration saw.

The kernels come from the llama.cpp inside `xllamacpp`, called through the C function `ggml_quantize_chunk`. Which
matrix gets which type is llama.cpp's rule for the mixture; `tests/model/release/test_kquants.py` holds what its
`llama_model_quantize` chose, without importance matrix byte for byte.

Blocks hold 256 weights of a row (K-quants) or 32; rows that do not divide take the next type that fits, as there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache

import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import Tensor

from model.architecture.config import ModelConfig
from model.release.quantized import Unit, plain_unit
from model.release.units import Role, role_of

__all__ = ["k_quantize", "k_quants"]

Type = GGMLQuantizationType
NARROWER = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
"""What llama.cpp takes for rows that are no multiple of 256."""
MIXTRAL = 8
"""llama.cpp gives models of eight experts, as Mixtral is, more bits in attention."""


def k_quants(
    weights: Mapping[str, Tensor],
    config: ModelConfig,
    importance: Mapping[str, Tensor],
    *,
    embeddings: GGMLQuantizationType | None = None,
) -> dict[str, Unit]:
    """Units in the mixture Q4_K_M; what llama.cpp leaves alone stays in fp32.

    Args:
        weights: by the names of `model.release.units`.
        importance: `Calibrated.importance`; a matrix without one is quantized without.
        embeddings: type of embedding and output layer, in place of llama.cpp's own.
    """
    made: dict[str, Unit] = {}
    for name, weight in weights.items():
        kind = k_type(name, weight, config)
        if kind is not None and embeddings is not None and role_of(name, weight) is Role.EMBEDDINGS:
            kind = embeddings
        seen = None if name == "model.embed_tokens.weight" else importance.get(name)  # looked up, not multiplied
        made[name] = plain_unit(weight, None) if kind is None else k_quantize(weight, kind, seen)
    return made


def k_type(name: str, weight: Tensor, config: ModelConfig) -> GGMLQuantizationType | None:
    """The type that llama.cpp's mixture Q4_K_M gives a unit; None where it stays in fp32."""
    if role_of(name, weight) is Role.KEPT:
        return None
    kind = Type.Q4_K
    like_mixtral = bool(config.moe_layers) and config.n_routed_experts == MIXTRAL
    if name == "lm_head.weight" or (name == "model.embed_tokens.weight" and config.tie_word_embeddings):
        kind = Type.Q6_K
    elif name.startswith("model.layers."):
        more = _more_bits(int(name.split(".")[2]), config.num_hidden_layers)
        if "down_proj" in name and more:
            kind = Type.Q6_K
        elif name.endswith("o_proj.weight") and like_mixtral:
            kind = Type.Q5_K
        elif config.is_dense and name.endswith("v_proj.weight") and more:
            kind = Type.Q6_K
    columns = weight.shape[-1]
    if columns % GGML_QUANT_SIZES[kind][0]:
        kind = NARROWER[kind]
    return kind if columns % GGML_QUANT_SIZES[kind][0] == 0 else Type.F16


def _more_bits(layer: int, layers: int) -> bool:
    """The first and the last eighth of the layers, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def k_quantize(weight: Tensor, kind: GGMLQuantizationType, importance_BC: Tensor | None = None) -> Unit:
    """Quantize a matrix [R, C], or [B, R, C] with importance [B, C] or [1, C].

    Raises:
        ValueError: the rows do not divide into the type's blocks.
    """
    block, size = GGML_QUANT_SIZES[kind]
    columns = weight.shape[-1]
    if columns % block:
        raise ValueError(f"{columns} columns are no multiple of {block}, the block of {kind.name}")
    matrices_BRC = weight.float().reshape(-1, *weight.shape[-2:]).contiguous()
    if kind is Type.F16:
        return Unit(weight.half().contiguous().view(torch.uint8), kind=kind)
    stored = torch.empty(*matrices_BRC.shape[:2], columns // block * size, dtype=torch.uint8)
    weighs = None if importance_BC is None else importance_BC.float().expand(len(matrices_BRC), -1).contiguous()
    for place, matrix_RC in enumerate(matrices_BRC):
        row = None if weighs is None else weighs[place].data_ptr()
        pointers = (matrix_RC.data_ptr(), stored[place].data_ptr())
        _quantizer()(kind.value, *pointers, 0, len(matrix_RC), columns, row)
    return Unit(stored.view(*weight.shape[:-1], -1), kind=kind)


@cache
def _quantizer() -> ctypes._FuncPointer:
    """``size_t ggml_quantize_chunk(type, float *src, void *dst, start, nrows, n_per_row, float *imatrix)``."""
    import xllamacpp.xllamacpp

    function: ctypes._FuncPointer = ctypes.CDLL(xllamacpp.xllamacpp.__file__).ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    function.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    ]
    return function
