"""Keys and values in 8 bits against plain arithmetic."""

from __future__ import annotations

import pytest
import torch

from model.architecture.cache import rounded, spread


@pytest.mark.parametrize(("width", "groups"), [(96, 3), (24, 1)])
def test_values_are_within_half_a_step_of_their_scale(width: int, groups: int) -> None:
    values = torch.randn(2, 5, width, generator=torch.Generator().manual_seed(0))
    values[0, 0] = 0
    codes, scales = rounded(values)
    assert (codes.dtype, codes.shape, scales.dtype) == (torch.int8, values.shape, torch.float16)
    assert scales.shape == (2, 5, groups)
    for row, place in ((0, 0), (1, 3)):
        for group in range(groups):
            numbers = values[row, place].tolist()[group * width // groups : (group + 1) * width // groups]
            step = torch.tensor(max(map(abs, numbers)) / 127).half().item()
            assert scales[row, place, group].item() == step
            found = spread(codes, scales)[row, place].tolist()[group * width // groups :]
            for number, ours in zip(numbers, found, strict=False):
                assert abs(number - ours) <= 0.51 * step
    again = spread(*rounded(spread(codes, scales)))
    assert torch.equal(again, spread(codes, scales))
