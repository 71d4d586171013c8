"""Grids against the `gguf` package; GPTQ against optimal brain quantization with the inverse updated in the open."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf import dequantize as gguf_dequantize

from model.release.gptq import gptq
from model.release.grid import GROUP, Grid, dequantize, encode, pack, round_to_nearest, scales_of, unpack


def problem(seed: int, rows: int = 12, columns: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(200, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    return torch.randn(rows, columns, generator=generator), inputs.T @ inputs


def slow_obq(weight, hessian, grid, damping=0.01):
    weight, hessian = weight.double().clone(), hessian.double()
    inverse = torch.linalg.inv(hessian + damping * hessian.diagonal().mean() * torch.eye(len(hessian)))
    codes, scales = torch.empty(weight.shape, dtype=torch.int8), []
    for c in range(weight.shape[1]):
        if c % GROUP == 0:
            scales.append(scales_of(weight[:, c : c + GROUP], grid)[:, 0])
        codes[:, c] = encode(weight[:, c], scales[-1], grid)
        error = weight[:, c] - codes[:, c] * scales[-1].double()
        weight = weight - torch.outer(error / inverse[c, c], inverse[c])
        inverse = inverse - torch.outer(inverse[:, c], inverse[c]) / inverse[c, c]
    return codes, torch.stack(scales, 1)


@pytest.mark.parametrize("grid", list(Grid))
def test_packing_is_lossless_and_worth_the_same_to_gguf(grid: Grid) -> None:
    weight, _ = problem(0)
    weight[0, :GROUP] = 0
    codes, scales = round_to_nearest(weight, grid)
    blocks = pack(codes, scales, grid)
    assert all(torch.equal(a, b) for a, b in zip(unpack(blocks, grid), (codes, scales), strict=True))
    theirs = gguf_dequantize(blocks, GGMLQuantizationType[grid.name])
    np.testing.assert_array_equal(theirs, dequantize(codes, scales).numpy())


@pytest.mark.parametrize("grid", list(Grid))
def test_gptq_is_slow_obq(grid: Grid) -> None:
    weight, hessian = problem(1)
    ours, slow = gptq(weight, hessian, grid), slow_obq(weight, hessian, grid)
    assert torch.equal(ours[0], slow[0])
    assert torch.equal(ours[1], slow[1])


@pytest.mark.parametrize("seed", range(5))
def test_gptq_beats_rounding_in_the_hessian_norm(seed: int) -> None:
    weight, hessian = problem(seed)

    def loss(quantized):
        delta = dequantize(*quantized) - weight
        return float(((delta @ hessian) * delta).sum())

    assert loss(gptq(weight, hessian, Grid.Q4_0)) < loss(round_to_nearest(weight, Grid.Q4_0))


def test_an_unseen_expert_is_rounded_to_nearest() -> None:
    weight, _ = problem(2)
    ours, plain = gptq(weight, torch.zeros(64, 64), Grid.Q4_0), round_to_nearest(weight, Grid.Q4_0)
    assert torch.equal(ours[0], plain[0])
    assert torch.equal(ours[1], plain[1])
