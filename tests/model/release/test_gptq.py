"""Grids against the `gguf` package; GPTQ against optimal brain quantization with the inverse updated in the open."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf import dequantize as gguf_dequantize

from model.architecture.grid import (
    GROUP,
    Grid,
    best_scales,
    dequantize,
    encode,
    pack,
    round_to_nearest,
    scales_of,
    unpack,
)
from model.release import two_sided
from model.release.factors import factor
from model.release.gptq import round_columns, toward


def problem(seed: int, rows: int = 12, columns: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(200, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    return torch.randn(rows, columns, generator=generator), inputs.T @ inputs


def slow_obq(weight, hessian, grid, damping=0.01):
    weight, hessian = weight.double().clone(), hessian.double()
    damped = hessian + damping * hessian.diagonal().mean() * torch.eye(len(hessian))
    importance = damped.diagonal().expand(len(weight), -1)
    scales = torch.stack(
        [
            best_scales(weight[:, start : start + GROUP], importance[:, start : start + GROUP], grid)
            for start in range(0, weight.shape[1], GROUP)
        ],
        1,
    )
    inverse, codes = torch.linalg.inv(damped), torch.empty(weight.shape, dtype=torch.int8)
    for c in sorted(range(weight.shape[1]), key=lambda c: -float(hessian[c, c])):
        scale = scales[:, c // GROUP]
        codes[:, c] = encode(weight[:, c], scale, grid)
        error = weight[:, c] - codes[:, c] * scale.double()
        weight = weight - torch.outer(error / inverse[c, c], inverse[c])
        inverse = inverse - torch.outer(inverse[:, c], inverse[c]) / inverse[c, c]
    return codes, scales


@pytest.mark.parametrize("grid", list(Grid))
def test_packing_is_lossless_and_worth_the_same_to_gguf(grid: Grid) -> None:
    weight, _ = problem(0)
    weight[0, :GROUP] = 0
    codes, scales = round_to_nearest(weight, grid)
    blocks = pack(codes, scales, grid)
    assert all(torch.equal(a, b) for a, b in zip(unpack(blocks, grid), (codes, scales), strict=True))
    theirs = gguf_dequantize(blocks, GGMLQuantizationType[grid.name])
    np.testing.assert_array_equal(theirs, dequantize(codes, scales).numpy())


def gptq(weight: torch.Tensor, hessian: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales of a single matrix."""
    codes, scales = round_columns(weight[None], factor(hessian[None]), grid)
    return codes[0], scales[0]


@pytest.mark.parametrize("grid", list(Grid))
def test_gptq_is_slow_obq(grid: Grid) -> None:
    weight, hessian = problem(1)
    ours, slow = gptq(weight, hessian, grid), slow_obq(weight, hessian, grid)
    assert torch.equal(ours[0], slow[0])
    assert torch.equal(ours[1], slow[1])


def moments(seed: int, matrices: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    seen = torch.randn(matrices, 200, size, generator=generator, dtype=torch.float64)
    seen = seen @ torch.randn(size, size, generator=generator, dtype=torch.float64)
    return seen.mT @ seen


def slow_two_sided(weight, columns, rows, steps, damping=0.01):
    """Weight by weight, with the inverse of both moments in one matrix of all weights of a row after the other."""
    height, width = weight.shape
    of_columns, of_rows = (
        torch.linalg.inv(seen + damping * seen.diagonal().mean() * torch.eye(len(seen))) for seen in (columns, rows)
    )
    inverse, left = torch.kron(of_rows, of_columns), weight.clone().flatten()
    order = [
        row * width + column
        for row in sorted(range(height), key=lambda row: -float(rows[row, row]))
        for column in sorted(range(width), key=lambda column: -float(columns[column, column]))
    ]
    codes = torch.empty(height * width, dtype=torch.int8)
    for place in order:
        codes[place] = encode(left[place], steps.flatten()[place], Grid.Q4_0)
        error = left[place] - codes[place] * steps.flatten()[place].double()
        left -= error / inverse[place, place] * inverse[place]
        inverse -= torch.outer(inverse[:, place], inverse[place]) / inverse[place, place]
    return codes.view(height, width)


@pytest.mark.parametrize(("matrices", "of_rows", "height"), [(1, 1, 6), (2, 1, 4), (2, 2, 5)])
def test_rounding_by_rows_and_columns_is_brain_surgery_of_the_whole_matrix(
    matrices: int, of_rows: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_sided, "TILE", 4)  # several tiles each way in a matrix that the slow way is quick for
    weight = torch.randn(matrices, height, 32, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    columns, rows = moments(7, matrices, 32), moments(8, of_rows, height)
    found = factor(columns)
    codes, scales = round_columns(weight, found, Grid.Q4_0, factor(rows))
    steps = scales.repeat_interleave(GROUP, -1)
    for place in range(matrices):
        slow = slow_two_sided(weight[place], columns[place], rows[place % of_rows], steps[place])
        assert torch.equal(codes[place], slow)

    def loss(codes: torch.Tensor) -> float:
        error = weight - codes.double() * steps.double()
        return float(((rows @ error @ columns) * error).sum())

    assert loss(codes) < 0.9 * loss(round_columns(weight, found, Grid.Q4_0)[0])


@pytest.mark.parametrize("seed", range(5))
def test_gptq_beats_rounding_in_the_hessian_norm(seed: int) -> None:
    weight, hessian = problem(seed)

    def loss(quantized):
        delta = dequantize(*quantized) - weight
        return float(((delta @ hessian) * delta).sum())

    assert loss(gptq(weight, hessian, Grid.Q4_0)) < loss(round_to_nearest(weight, Grid.Q4_0))


def test_an_unseen_expert_is_rounded_to_nearest() -> None:
    weight, _ = problem(2)
    codes, scales = gptq(weight, torch.zeros(64, 64), Grid.Q4_0)
    assert torch.equal(codes, encode(weight, scales.repeat_interleave(GROUP, 1), Grid.Q4_0))
    plain = round_to_nearest(weight, Grid.Q4_0)
    assert (dequantize(codes, scales) - weight).square().sum() <= (dequantize(*plain) - weight).square().sum()


def test_the_best_scale_is_better_than_a_thousand_others() -> None:
    """Against a plain search: two weights of a group count for a hundred, the rest for one."""
    weight, _ = problem(3, rows=20, columns=GROUP)
    importance = torch.ones(20, GROUP, dtype=torch.float64)
    importance[:, :2] = 100

    def error(scale):
        codes = encode(weight.double(), scale[:, None], Grid.Q4_0).double()
        return (importance * (weight - codes * scale.double()[:, None]).square()).sum(-1)

    plain = scales_of(weight, Grid.Q4_0)[:, 0]
    ours = error(best_scales(weight.double(), importance, Grid.Q4_0))
    searched = torch.stack([error((plain * share).half()) for share in torch.linspace(-1.5, 1.5, 1001)]).amin(0)
    assert (ours <= error(plain)).all()
    assert ours.sum() < 1.1 * searched.sum()


def test_a_weight_makes_of_drifted_inputs_what_the_original_made() -> None:
    """Nearer than before on inputs not seen; as it was where nothing drifted, or where nothing is known."""
    weight, _ = problem(4)
    generator = torch.Generator().manual_seed(5)
    original = torch.randn(600, 64, generator=generator) @ torch.randn(64, 64, generator=generator)
    drifted = original @ (torch.eye(64) + 0.02 * torch.randn(64, 64, generator=generator))
    x, y = drifted[:400].double(), original[:400].double()
    drift = weight.double() @ (y.T @ x - x.T @ x)
    moved = toward(weight[None], (x.T @ x)[None], drift[None])[0].float()

    def error(each):
        return float((drifted[400:] @ each.T - original[400:] @ weight.T).square().sum())

    assert error(moved) < 0.5 * error(weight)
    assert torch.equal(toward(weight[None], (x.T @ x)[None], torch.zeros_like(drift)[None])[0], weight.double())
    assert torch.equal(toward(weight[None], torch.zeros(1, 64, 64), drift[None])[0], weight.double())
