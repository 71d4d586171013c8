"""The share of a GPU's peak that a training step reaches: ``python -m bench.gpu_peak [--json FILE] [--device cpu]``.

Three layers of DeepSeek-V2-Lite's shapes in bf16, deterministic, without a peer: `bench.gpu_speed` has those. What a
step does per step and not per token (the optimizer, the casts of the weights) weighs less the longer the batch, so it
is measured at 8 rows of 2,048 tokens, as there, and at 32. Both peaks are told: the nominal one of the card and the
one that a large product reaches on it.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

from bench.gpu import seconds
from bench.gpu_speed import LENGTH, _ours, _transformer, matrix_peak
from bench.table import Row, row, show
from model.planning.costs import flops_per_token
from model.training.prepare import compile_parts

NOMINAL = 989e12
"""Of an H100 or H200 in bf16, without sparsity."""
ROWS = (8, 32)
STEPS, ROUNDS = 2, 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    found = measure(torch.device(chosen.device))
    show(found, chosen.json)


def measure(device: torch.device) -> list[Row]:
    """Both batches, and the longer one compiled."""
    length = LENGTH if device.type == "cuda" else 64
    peak = matrix_peak(device)
    transformer = _transformer(device)
    per_token = flops_per_token(transformer.config, length)
    step = _ours(transformer)
    torch.use_deterministic_algorithms(True)
    found: list[Row] = []
    for rows, is_compiled in ((ROWS[0], False), (ROWS[-1], False), (ROWS[-1], True)):
        if is_compiled:
            compile_parts(transformer)
        tokens = torch.randint(0, transformer.config.vocab_size, (rows, length), device=device)

        def steps(tokens: torch.Tensor = tokens) -> None:
            for _ in range(STEPS):
                step(tokens)

        spent = statistics.median([seconds(steps, device) for _ in range(ROUNDS)][1:])
        speed = STEPS * tokens.numel() / spent
        what = f"{rows} rows of {length} tokens" + (", compiled" if is_compiled else "")
        reached = speed * per_token
        found += [
            row(f"{what}: training", "tokens/s", speed, {}, None),
            row(f"{what}: share of the nominal peak", "", reached / NOMINAL, {}, 0.4),
            row(f"{what}: share of the peak of a large product", "", reached / peak, {}, None),
        ]
        print(f"{what}: {speed:,.0f} tokens/s, {reached / 1e12:.0f} TFLOP/s", flush=True)
    torch.use_deterministic_algorithms(False)
    return found


if __name__ == "__main__":
    main()
