"""8-bit weights and 8-bit activations (W8A8): what int8 matrix units compute, as a compressed-tensors checkpoint.

Weights have one scale per output row, rounded to nearest (8 bits leave GPTQ nothing to gain); activations get a scale
per token while the model runs. That is compressed-tensors' ``int-quantized`` format, which vLLM computes with in int8.
`int8_activations` rounds the inputs of every quantized matrix in our own model just so, to measure what it costs.

Not quantized: embedding, head, router, norms, and the key-value expansion of latent attention.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infra.json_objects import JsonObject, read_object
from model.architecture.checkpoint import to_hf_names
from model.architecture.moe import RoutedExperts
from model.architecture.transformer import Transformer
from model.release.compressed import scheme, unquantized, write_folder

__all__ = ["int8_activations", "round_rows", "write_w8a8"]

LIMIT = 127
KEPT = ("lm_head", "embed_tokens", "mlp.gate", "kv_b_proj")
"""Ends of the names of modules whose weights stay as they are."""


def round_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes int8 [..., R, C] and float32 scales [..., R, 1], symmetric; a row of zeros has scale 1."""
    scale = x.float().abs().amax(-1, keepdim=True) / LIMIT
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (x.float() / scale).round().clamp(-LIMIT, LIMIT).to(torch.int8), scale


def _as_int8(x: Tensor) -> Tensor:
    codes, scale = round_rows(x)
    return codes.float() * scale


def _is_quantized(module: str) -> bool:
    return not module.endswith(KEPT)


@contextlib.contextmanager
def int8_activations(model: Transformer) -> Iterator[None]:
    """Round weights by row and, in every forward pass, the inputs of these matrices by token; undone at the end."""
    kept: list[tuple[Tensor, Tensor]] = []
    handles: list[Any] = []
    swapped: list[RoutedExperts] = []

    def round_weight(weight: Tensor) -> None:
        kept.append((weight, weight.detach().clone()))
        weight.copy_(_as_int8(weight))

    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, RoutedExperts):
                round_weight(module.gate_up_proj)
                round_weight(module.down_proj)
                module.forward = _experts_forward.__get__(module)  # type: ignore[method-assign]
                swapped.append(module)
            elif isinstance(module, nn.Linear) and _is_quantized(name):
                round_weight(module.weight)
                handles.append(module.register_forward_pre_hook(lambda module, args: (_as_int8(args[0]), *args[1:])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in swapped:
            del module.forward
        with torch.no_grad():
            for weight, original in kept:
                weight.copy_(original)


def _experts_forward(self: RoutedExperts, x_TD: Tensor, gates_TK: Tensor, experts_TK: Tensor) -> Tensor:
    """`RoutedExperts.forward`, in the open, with both inputs of each expert rounded."""
    x_TD, y_TD = _as_int8(x_TD), torch.zeros_like(x_TD)
    for expert, down_DF in enumerate(self.down_proj):
        token_t, choice_t = (experts_TK == expert).nonzero(as_tuple=True)
        out_tD = F.linear(_as_int8(self.inner(expert, x_TD[token_t])), down_DF)
        y_TD.index_add_(0, token_t, out_tD * gates_TK[token_t, choice_t][:, None])
    return y_TD


def write_w8a8(model: Transformer, checkpoint: Path, folder: Path) -> None:
    """Write `model`, whose checkpoint's folder has the rest, for engines that compute in int8."""
    tensors: dict[str, Tensor] = {}
    for name, weight in to_hf_names(model.state_dict()).items():
        module = name.removesuffix(".weight")
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        if weight.dim() == 2 and _is_quantized(module):
            codes, scale = round_rows(weight)
            tensors |= {name: codes.contiguous(), f"{module}.weight_scale": scale.contiguous()}
        else:
            tensors[name] = unquantized(name, weight)
    settings = read_object(checkpoint / "config.json")
    write_folder(folder, tensors, settings, scheme(model.config, "int-quantized", _groups()), checkpoint)


def _groups() -> JsonObject:
    """``config_groups``: every linear layer, weights by row and inputs by token."""

    def eight_bits(strategy: str, *, dynamic: bool) -> JsonObject:
        return {"num_bits": 8, "type": "int", "symmetric": True, "strategy": strategy, "dynamic": dynamic}

    return {
        "group_0": {
            "targets": ["Linear"],
            "weights": eight_bits("channel", dynamic=False),
            "input_activations": eight_bits("token", dynamic=True),
            "output_activations": None,
        }
    }
