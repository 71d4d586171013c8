"""Which kernel computes attention over packed documents on a GPU, and why that one: the FlashAttention 2 that torch
brings along, or the package flash-attn, in its version 2 (arXiv 2307.08691) or, for Hopper GPUs, 3 (arXiv 2407.08608).

They add in different orders, so the bits of a training depend on the choice. It follows from what the execution asks
for, what is installed, the GPU and the widths of the heads, and never from a timing: a rerun must take the same one.

The two packages were written for from their sources (flash-attn 2.8.3.post2, flash-attn-3 3.0.0) and have not been run:
no GPU was at hand. ``python -m bench.gpu --part attention`` compares them with torch's kernel in value, gradient, bits
and time. Loaded without torch, for recipes are checked by it.

Shapes: N heads, G key-value heads, W width of queries and keys and X of values as the kernel takes them, M documents,
t tokens laid end to end.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from packaging.specifiers import SpecifierSet

from infra.errors import UserError, first_line
from infra.execution import Attention

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Kernel", "Package", "attend_documents", "choose", "kernel_widths", "load", "refused", "told", "why_not"]


class Kernel(StrEnum):
    """What computes attention over packed documents."""

    TORCH = Attention.TORCH.value
    FLASH2 = Attention.FLASH2.value
    FLASH3 = Attention.FLASH3.value


@dataclass(frozen=True)
class Package:
    """A package that brings a kernel, and where the kernel computes gradients that repeat."""

    name: str
    """Of the distribution."""
    module: str
    """Of its `flash_attn_varlen_func`."""
    versions: SpecifierSet
    generations: tuple[int, ...]
    """Of GPUs that it is built for: first numbers of their compute capability."""
    widest: int
    """Widest head."""


PACKAGES = {
    Kernel.FLASH2: Package("flash-attn", "flash_attn", SpecifierSet(">=2.8.3,<3"), (8, 9, 10, 12), 256),
    # Before 3.0.0 the backward pass was given the flag `deterministic` and did not heed it (the repository's pull
    # requests 1766 and 1893); with heads of 256 it refuses it.
    Kernel.FLASH3: Package("flash-attn-3", "flash_attn_interface", SpecifierSet(">=3.0.0,<4"), (9,), 192),
}
PREFERRED = (Kernel.FLASH3,)
"""What `auto` takes where it can be, first things first. Version 2 is what torch brings, built anew."""

_LOADED: dict[Kernel, Callable[..., Any]] = {}
"""Filled by `load`: an import has no place inside what torch.compile traces."""


def choose(wanted: Attention, gpu: tuple[int, int] | None, is_bf16: bool, width: int) -> Kernel:
    """The kernel for a model whose widest head has `width` numbers, on a GPU of this compute capability.

    Args:
        gpu: None on a CPU, which packs documents by a mask.
        is_bf16: whether matrix products are in bf16.

    Raises:
        UserError: the execution names a kernel that cannot be had here; the line says why.
    """
    if wanted is Attention.TORCH:
        return Kernel.TORCH
    if wanted is Attention.AUTO:
        return next((each for each in PREFERRED if why_not(each, gpu, is_bf16, width) is None), Kernel.TORCH)
    kernel = Kernel(wanted.value)
    if reason := why_not(kernel, gpu, is_bf16, width):
        raise UserError(_line(wanted, reason))
    return kernel


def why_not(kernel: Kernel, gpu: tuple[int, int] | None, is_bf16: bool, width: int) -> str | None:
    """Why a package's kernel cannot be taken; None where it can."""
    package = PACKAGES[kernel]
    if gpu is None:
        return "it runs on a GPU, and this process has none"
    if not is_bf16:
        return "it computes in 16 bits, and matrix products are in fp32 here (execution.precision, or an old GPU)"
    if gpu[0] not in package.generations:
        known = ", ".join(f"{number}.x" for number in package.generations)
        return f"it is for GPUs of compute capability {known}, and this one has {gpu[0]}.{gpu[1]}"
    return _too_wide(package, width) or _not_installed(package)


def refused(wanted: Attention, width: int, *, here: bool = False) -> str | None:
    """Why a stage would refuse what the execution asks for, as far as that is known before it begins, in one line.

    Args:
        here: the stage will run on this machine, where the package must then be installed.
    """
    if wanted in (Attention.TORCH, Attention.AUTO):
        return None
    package = PACKAGES[Kernel(wanted.value)]
    reason = _too_wide(package, width) or (_not_installed(package) if here else None)
    return reason and _line(wanted, reason)


def _line(wanted: Attention, reason: str) -> str:
    return f"execution.attention {wanted}: {reason}; set it to torch, or to auto"


def _too_wide(package: Package, width: int) -> str | None:
    if width <= package.widest:
        return None
    return f"heads of the model are {width} wide, and {package.name} repeats gradients of {package.widest} at most"


def _not_installed(package: Package) -> str | None:
    version = _installed(package)
    if version is None:
        return f"{package.name} is not installed (docs/gpu.md says how)"
    if version not in package.versions:
        return f"{package.name} {version} is installed, and {package.versions} is wanted (docs/gpu.md says how)"
    return None


def _installed(package: Package) -> str | None:
    try:
        return importlib.metadata.version(package.name)
    except importlib.metadata.PackageNotFoundError:
        return None


def told(kernel: Kernel) -> str:
    """The kernel as it is recorded: a package with its version, or torch, whose version is recorded anyway."""
    package = PACKAGES.get(kernel)
    return kernel.value if package is None else f"{package.name} {_installed(package)}"


def load(kernel: Kernel) -> None:
    """Import what the kernel is in.

    Raises:
        UserError: the package does not load, as one that was built for another torch does not.
    """
    if kernel is Kernel.TORCH or kernel in _LOADED:
        return
    package = PACKAGES[kernel]
    try:
        _LOADED[kernel] = importlib.import_module(package.module).flash_attn_varlen_func
    except (ImportError, OSError, AttributeError) as error:
        raise UserError(
            f"execution.attention: {told(kernel)} does not load ({first_line(error)}): it must be built for torch "
            f"{importlib.metadata.version('torch')} and its CUDA; install such a build, or set it to torch"
        ) from error


def kernel_widths(kernel: Kernel, query: int, value: int) -> tuple[int, int]:
    """Widths W and X to which heads are filled up with zeros, which change no logit and add outputs that are cut off.

    Multiples of 8, and the same for queries, keys and values; version 3 also takes latent attention's 192 and 128 as
    they are.
    """
    wide, narrow = (-(-width // 8) * 8 for width in (query, value))
    if kernel is Kernel.FLASH3 and 128 < wide <= 192 and 96 < narrow <= 128:
        return wide, narrow
    return max(wide, narrow), max(wide, narrow)


def attend_documents(
    kernel: Kernel, q_tNW: Tensor, k_tGW: Tensor, v_tGX: Tensor, starts_M1: Tensor, longest: int, scale: float
) -> Tensor:
    """Causal attention [t, N, X] within each document, of no more than `longest` tokens; `starts_M1` as in
    `model.architecture.packed.Documents`.

    Gradients repeat where torch is told to take algorithms that do.
    """
    import torch

    if kernel is Kernel.TORCH:
        return _torchs(q_tNW, k_tGW, v_tGX, starts_M1, longest, scale)
    load(kernel)
    y_tNX: Tensor = _LOADED[kernel](
        q_tNW,
        k_tGW,
        v_tGX,
        starts_M1,
        starts_M1,
        longest,
        longest,
        softmax_scale=scale,
        causal=True,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )
    return y_tNX


def _torch_function() -> Callable[..., Any]:
    from torch.nn.attention.varlen import varlen_attn

    kernel: Callable[..., Any] = varlen_attn
    return kernel


def _torchs(q_tNW: Tensor, k_tGW: Tensor, v_tGW: Tensor, starts_M1: Tensor, longest: int, scale: float) -> Tensor:
    # not said where it is not needed: torch 2.11 has no such argument
    shared: dict[str, bool] = {"enable_gqa": True} if q_tNW.shape[1] != k_tGW.shape[1] else {}
    y_tNW: Tensor = _torch_function()(
        q_tNW,
        k_tGW,
        v_tGW,
        starts_M1,
        starts_M1,
        longest,
        longest,
        scale=scale,
        window_size=(-1, 0),  # causal
        **shared,
    )
    return y_tNW
