"""Matrices that engines compute as one layer, which therefore need one precision.

vLLM and SGLang join queries, keys and values, gate and up, the two latent projections, and all experts of a layer;
they refuse a checkpoint whose parts of such a layer are quantized in different ways. A narrow code and its scale mean
the same number in a wider grid, so bringing the parts to the widest of them changes no weight.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from model.architecture.grid import Grid, unpack
from model.release.quantized import Unit

__all__ = ["fused_layer", "shared_bits", "widened"]

JOINED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("q_a_proj", "kv_a_proj_with_mqa"))


def fused_layer(name: str) -> str:
    """The layer that a matrix is computed in, by the name of the matrix; the same for those computed together."""
    prefix, _, projection = name.removesuffix(".weight").rpartition(".")
    if prefix.endswith(".mlp.experts"):
        return prefix
    return f"{prefix}.{next((names[0] for names in JOINED if projection in names), projection)}"


def shared_bits(bits: Mapping[str, int], *, one_attention: bool = False) -> dict[str, int]:
    """Bits of each matrix as an engine takes them: the most in its layer, or 0 (not quantized) where a part has 0.

    Args:
        one_attention: the attention of all layers has the same bits. vLLM (0.32) forgets the names of these matrices in
            the first DeepSeekMoE, so that nothing can be said of one of them alone.
    """

    def layer_of(name: str) -> str:
        return "attention" if one_attention and ".self_attn." in name else fused_layer(name)

    layers: dict[str, list[int]] = defaultdict(list)
    for name, each in bits.items():
        layers[layer_of(name)].append(each)
    shared = {layer: max(parts) if all(parts) else 0 for layer, parts in layers.items()}
    return {name: shared[layer_of(name)] for name in bits}


def widened(unit: Unit, grid: Grid) -> Unit:
    """The same weights in `grid`, whose codes reach no less far than those of the unit's own."""
    if unit.grid is grid:
        return unit
    assert unit.grid is Grid.Q4_0
    codes, scales = unpack(unit.stored.flatten(0, -2).numpy(), unit.grid)
    leading = unit.stored.shape[:-1]
    return Unit.packed(codes.view(*leading, -1), scales.view(*leading, -1), grid)
