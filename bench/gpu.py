"""What a GPU is needed to verify: ``python -m bench.gpu [--quick] [--json FILE]``.

FlashAttention against masked SDPA on packed documents, in value, gradient and time, for the head shapes of the
families; and the gradient of a small model with both. Without a GPU it says so and verifies nothing: there, the CPU
tests of `tests/model/test_packed.py` hold the wrapper's shapes and masks.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SHAPES = {
    # query heads, key-value heads, query width, value width
    "DeepSeekMoE 16B": (16, 16, 128, 128),
    "DeepSeek-LLM 67B (grouped queries)": (64, 8, 128, 128),
    "DeepSeek-V2-Lite (latent, expanded)": (16, 16, 192, 128),
}
TOLERANCE = 2e-2
"""bf16 keeps 8 bits; both paths are compared with fp32 SDPA, whose values are of order one."""


def main() -> None:
    """Verify and print; with ``--json`` write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter rows")
    parser.add_argument("--json", type=Path, help="where the rows go")
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing of the GPU path was verified (tests/model/test_packed.py holds its logic)")
        rows: list[dict[str, Any]] = []
    else:
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
        length = 1024 if chosen.quick else 4096
        rows = [row for name in SHAPES for row in attention(name, length)] + model_step(length // 2)
        for row in rows:
            mark = "holds" if row["holds"] else "MISSES"
            peers = ", ".join(f"{name} {value:.4g}" for name, value in row["peers"].items())
            print(f"{row['metric']:<64} {row['ours']:.4g} {row['unit']}   {peers}   {mark}")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n")


def documents_of(rows: int, length: int) -> Tensor:
    """Packed rows of documents of unequal length."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.rand(rows, length, generator=generator) < 6 / length
    return starts.long().cumsum(1).cuda()


def milliseconds(call: Callable[[], object]) -> float:
    """Best of five, after one to warm up."""
    best = float("inf")
    for attempt in range(6):
        torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        torch.cuda.synchronize()
        if attempt:
            best = min(best, (time.perf_counter() - started) * 1000)
    return best


def attention(name: str, length: int) -> list[dict[str, Any]]:
    """Values and gradients of both paths against fp32, and their times."""
    from model.packed import Documents, attend, document_mask

    heads, shared, query, value = SHAPES[name]
    torch.manual_seed(0)
    inputs = [
        torch.randn(2, length, count, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for count, width in ((heads, query), (shared, query), (shared, value))
    ]
    ids = documents_of(2, length)
    chosen = document_mask(ids, torch.bfloat16, max(query, value))
    if not isinstance(chosen, Documents):
        raise SystemExit("this GPU is not given FlashAttention (it is older than Ampere): nothing to verify")
    masked = document_mask(ids, torch.float32, max(query, value))
    scale = query**-0.5

    def run(mask: Any, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
        out = attend(*(x.to(dtype) for x in inputs), mask, scale)
        return [out, *torch.autograd.grad(out.float().square().sum(), inputs)]

    exact, flash, plain = run(masked, torch.float32), run(chosen), run(masked)
    errors = [
        max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(result, exact, strict=True))
        for result in (flash, plain)
    ]
    fast, slow = milliseconds(lambda: run(chosen)), milliseconds(lambda: run(masked))
    return [
        result_row(f"{name}: error of values and gradients", "of the largest", errors[0], errors[1], TOLERANCE),
        result_row(f"{name}: forward and backward, {length} tokens", "ms", fast, slow, slow),
    ]


def model_step(length: int) -> list[dict[str, Any]]:
    """Loss and gradient of a small latent-attention model with FlashAttention and without."""
    import model.packed
    from model.config import ModelConfig
    from model.transformer import Transformer

    torch.manual_seed(0)
    config = ModelConfig(vocab_size=1024, hidden_size=512, num_hidden_layers=4, initializer_range=0.02)
    transformer = Transformer(config).cuda().train()
    tokens, ids = torch.randint(0, 1024, (4, length), device="cuda"), documents_of(4, length)

    def gradient() -> Tensor:
        transformer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            logits = transformer(tokens, documents_BT=ids)
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
        return torch.cat([p.grad.flatten() for p in transformer.parameters() if p.grad is not None])

    flash, fast = gradient(), milliseconds(gradient)
    choose = model.packed.takes_flash
    model.packed.takes_flash = lambda device, dtype, width: False
    plain, slow = gradient(), milliseconds(gradient)
    model.packed.takes_flash = choose
    difference = ((flash - plain).norm() / plain.norm()).item()
    return [
        result_row("small model: gradient against masked SDPA", "of its norm", difference, 0.0, 5e-2),
        result_row(f"small model: forward and backward, 4 x {length} tokens", "ms", fast, slow, slow),
    ]


def result_row(metric: str, unit: str, ours: float, peer: float, target: float) -> dict[str, Any]:
    """One line of the table."""
    return {
        "metric": metric,
        "unit": unit,
        "ours": ours,
        "peers": {"masked SDPA": peer},
        "ratio": ours / peer if peer else None,
        "target": target,
        "holds": ours <= target,
    }


if __name__ == "__main__":
    main()
