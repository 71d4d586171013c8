"""Attention over packed documents by every kernel that this machine has: torch's, and the packages of docs/gpu.md.

``python -m bench.gpu --part attention``. Each kernel against fp32 in value and gradient, the same bits twice, and its
time beside torch's and a mask's; then tokens per second of training with it. A package that cannot be taken is named
with the reason and gives no row. The winner by these rows is what `execution.attention: auto` should take
(`PREFERRED` of `model.architecture.varlen`).
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.gpu import TOLERANCE, error, milliseconds, seconds
from bench.gpu_speed import LENGTH, MODEL, ROWS, SMALL, _ours
from bench.table import Row, row
from model.architecture.varlen import Kernel, load, told, why_not

SHAPES = {
    # query heads, key-value heads, query width, value width
    "DeepSeekMoE 16B": (16, 16, 128, 128),
    "DeepSeek-LLM 67B (grouped queries)": (64, 8, 128, 128),
    "DeepSeek-V2-Lite (latent, expanded)": (16, 16, 192, 128),
    "the preset laptop (latent, expanded)": (8, 8, 64, 64),
}
TRAINED: dict[str, dict[str, Any]] = {
    "latent attention, 192 and 128": {},
    "multi-head attention, 128": {"model_type": "deepseek"},
}
"""Layers of DeepSeek-V2-Lite's shapes, and the same with the attention of DeepSeekMoE 16B."""
STEPS, ROUNDS = 3, 5


def measure(device: torch.device, quick: bool) -> list[Row]:
    """The kernels alone, and in training; on a CPU, which has none, a small training goes through the motions."""
    rows: list[Row] = []
    if device.type == "cuda":
        rows += [found for name in SHAPES for found in kernels(name, 1024 if quick else 4096, device)]
    return rows + [found for name in TRAINED for found in training(name, 2 if quick else ROUNDS, device)]


def takeable(device: torch.device, width: int) -> Iterator[Kernel]:
    """Torch's kernel and the packages' that can be taken here; why the others cannot is printed."""
    yield Kernel.TORCH
    gpu = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    for kernel in (Kernel.FLASH2, Kernel.FLASH3):
        if reason := why_not(kernel, gpu, True, width):
            print(f"{kernel} with heads of {width}: {reason}")
            continue
        load(kernel)
        yield kernel


def kernels(name: str, length: int, device: torch.device) -> list[Row]:
    """Values and gradients of each kernel and of the mask against fp32, and their times; what repeating costs."""
    from model.architecture.packed import Documents, attend, document_mask

    heads, shared, query, value = SHAPES[name]
    torch.manual_seed(0)
    inputs = [
        torch.randn(2, length, count, width, device=device, dtype=torch.bfloat16, requires_grad=True)
        for count, width in ((heads, query), (shared, query), (shared, value))
    ]
    starts = torch.rand(2, length, generator=torch.Generator().manual_seed(0)) < 6 / length
    ids = starts.long().cumsum(1).to(device)
    chosen = document_mask(ids, torch.bfloat16, max(query, value))
    if not isinstance(chosen, Documents):
        raise SystemExit("this GPU is not given FlashAttention (it is older than Ampere): nothing to verify")
    masked = document_mask(ids, torch.float32, max(query, value))
    masked_bf16 = masked.to(torch.bfloat16) if isinstance(masked, Tensor) else masked
    dy = torch.randn(2, length, heads, value, device=device)

    def run(mask: Any, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
        out = attend(*(x.to(dtype) for x in inputs), mask, query**-0.5)
        return [out, *torch.autograd.grad(out, inputs, dy.to(dtype))]

    exact, plain = run(masked, torch.float32), run(masked_bf16)
    off = {"masked SDPA": error(plain, exact)}
    peers: dict[str, float | None] = {"masked SDPA": milliseconds(lambda: run(masked_bf16), device)}
    rows = []
    for kernel in takeable(device, max(query, value)):
        documents = replace(chosen, kernel=kernel)
        found = error(run(documents), exact)
        free = milliseconds(lambda documents=documents: run(documents), device)
        torch.use_deterministic_algorithms(True)
        fast = milliseconds(lambda documents=documents: run(documents), device)
        first = run(documents)
        is_same = all(torch.equal(a, b) for _ in range(5) for a, b in zip(first, run(documents), strict=True))
        torch.use_deterministic_algorithms(False)
        what = f"{name}, 2 x {length} tokens, {told(kernel)}: "
        beside = {**peers, "the same, not repeatable": free}
        rows += [
            row(what + "error of values and gradients", "of max", found, {}, TOLERANCE, most=True),
            row(what + "that error against masked SDPA's", "of max", found, off, 1.5, most=True),
            row(what + "same bits six times", "", float(is_same), {}, 1.0),
            row(what + "forward and backward, repeatable", "ms", fast, beside, None, most=True),
        ]
        peers[told(kernel)] = fast
    return rows


def training(name: str, rounds: int, device: torch.device) -> list[Row]:
    """Tokens per second of a repeatable training by each kernel, in interleaved rounds, and its loss before."""
    from model.architecture.config import ModelConfig
    from model.architecture.transformer import Transformer

    gc.collect()
    torch.manual_seed(0)
    sizes, length = ({}, LENGTH) if device.type == "cuda" else (SMALL, 64)
    with device:
        transformer = Transformer(ModelConfig.model_validate(MODEL | sizes | TRAINED[name]))
    step = _ours(transformer)
    tokens = torch.randint(0, transformer.config.vocab_size, (ROWS, length), generator=torch.Generator().manual_seed(0))
    tokens = tokens.to(device)
    found = list(takeable(device, transformer.config.attention_width))
    losses = {kernel: _loss(transformer, kernel, tokens) for kernel in found}
    spent: dict[Kernel, list[float]] = {kernel: [] for kernel in found}
    torch.use_deterministic_algorithms(device.type == "cuda")
    for number in range(rounds + 1):
        for kernel in found:
            transformer.kernel = kernel
            took = seconds(lambda: [step(tokens) for _ in range(STEPS)], device)
            if number:
                spent[kernel].append(took)
    torch.use_deterministic_algorithms(False)
    speeds = {kernel: STEPS * tokens.numel() / statistics.median(times) for kernel, times in spent.items()}
    rows = [row(f"training, {name}, torch", "tokens/s", speeds[Kernel.TORCH], {}, None)]
    for kernel in found[1:]:
        what = f"training, {name}, {told(kernel)}"
        far = abs(losses[kernel] - losses[Kernel.TORCH])
        rows.append(row(f"{what}: loss of the first weights against torch's", "nats", far, {}, 2e-2, most=True))
        rows.append(row(what, "tokens/s", speeds[kernel], {"torch": speeds[Kernel.TORCH]}, 1.0))
    return rows


@torch.no_grad()
def _loss(transformer: Any, kernel: Kernel, tokens: Tensor) -> float:
    """Per token, by this kernel."""
    from model.training.prediction import targets_at
    from model.training.prepare import autocast

    transformer.kernel = kernel
    with autocast(tokens.device):
        (loss,) = transformer(tokens, documents_BT=torch.zeros_like(tokens), targets=[targets_at(0, tokens)])
    return float(loss) / (tokens.shape[0] * (tokens.shape[1] - 1))
