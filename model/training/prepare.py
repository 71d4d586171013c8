"""What the execution does to a model before it trains: recomputation, compilation, the precision of its products, and
on a GPU the choice of kernels that give the same bits every time.

None of it changes what is computed beyond rounding.
"""

from __future__ import annotations

import ctypes
import functools
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infra import events
from infra.errors import UserError
from infra.execution import Attention, Precision, execution
from model.architecture.devices import own_rank
from model.architecture.grouped import compile_activations
from model.architecture.transformer import Transformer
from model.architecture.varlen import choose, load, told

__all__ = ["autocast", "compile_parts", "computing_under_autocast", "keep_memory", "prepare", "without_autocast"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""


def prepare(model: Transformer, device: torch.device) -> None:
    """Make `model` recompute its layers' activations, and compile parts of them, as the execution asks; on a GPU, take
    kernels that repeat. To be called before anything is computed.

    Raises:
        UserError: a kernel that is asked for cannot be had here.
    """
    wide = execution()
    _repeat_exactly(device)
    _take_kernel(model, device)
    model.recomputes = model.recomputes or wide.recompute
    if wide.compile:
        compile_parts(model)


def _take_kernel(model: Transformer, device: torch.device) -> None:
    """Let `model` attend over packed documents by the kernel that the execution asks for."""
    wanted = execution().attention
    gpu = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    model.kernel = choose(wanted, gpu, _computes_in_bf16(device), model.config.attention_width)
    load(model.kernel)
    if wanted is not Attention.TORCH and own_rank() == 0:
        events.note(f"execution.attention {wanted}: packed documents by {told(model.kernel)}")


def compile_parts(model: Transformer) -> None:
    """Compile attention and, of the experts, what lies between their products; whole layers have hooks, which would
    cut the graph."""
    layers: Any = model.model.layers
    for layer in layers:
        layer.self_attn.compile()
    compile_activations()


def computing_under_autocast(model: Transformer, device: torch.device) -> Transformer:
    """`model`, whose forward pass opens `autocast` itself: DeepSpeed closes what is open around its engine."""
    plain = model.forward

    def forward(*inputs: Any, **options: Any) -> Any:
        with autocast(device):
            return plain(*inputs, **options)

    model.forward = forward  # type: ignore[method-assign]
    return model


def without_autocast(gate: Any) -> None:
    """Let a gate compute in fp32 as ours do: in 16 bits, near-ties choose other experts."""
    plain = gate.forward

    def forward(x_TD: Tensor, *rest: Any) -> Any:
        with torch.autocast(x_TD.device.type, enabled=False):
            return plain(x_TD.float(), *rest)

    gate.forward = forward


@functools.cache
def keep_memory() -> None:
    """Let this process keep the memory that it frees.

    glibc gives blocks of 32 MB and more back to the system at once and asks for fresh pages at the next step: 15 to 30
    thousand page faults a step, some 5 % of its time (docs/experiments.md, "Training speed"). What a training frees it
    needs again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's own
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def _repeat_exactly(device: torch.device) -> None:
    """On a GPU, let torch take only kernels that give the same bits every time: a resumed run depends on it.

    FlashAttention's backward pass and sums in place otherwise add in the order in which blocks finish. What it costs is
    in docs/experiments.md, "On a GPU".
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.use_deterministic_algorithms(True)
    settings: Any = torch.utils.deterministic
    settings.fill_uninitialized_memory = False  # we read nothing that we have not written


@functools.cache
def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def _computes_in_bf16(device: torch.device) -> bool:
    """Whether `autocast` has anything to do."""
    choice = execution().precision
    if device.type == "cuda":
        return choice is not Precision.FP32 and torch.cuda.is_bf16_supported(including_emulation=False)
    return choice is Precision.BF16


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Matrix products in bf16 on a GPU that has it; weights, gradients and optimizer stay in fp32.

    A CPU computes in fp32 unless the execution says bf16.

    Raises:
        UserError: bf16 was asked for on a CPU without it, which would be a hundred times slower.
    """
    enabled = _computes_in_bf16(device)
    if enabled and device.type != "cuda" and not _cpu_has_bf16():
        raise UserError("execution.precision bf16: this CPU has neither avx512_bf16 nor amx_bf16; set it to auto")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
