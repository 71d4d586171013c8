"""The kernels that training runs on, against plain, slow, obviously right versions of the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.architecture.causal import BLOCK, attend_in_blocks, suits_blocks
from model.architecture.grouped import Routing, gated_experts
from model.architecture.output import IGNORED, LEAST_ROWS, OutputLayer
from model.architecture.packed import document_mask

EXPERTS, HIDDEN, WIDTH, CHOSEN = 6, 8, 4, 2


def _doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


def _one_by_one(x_TD: Tensor, gates_t: Tensor, experts_t: Tensor, down_EDF: Tensor, up_EXD: Tensor) -> Tensor:
    rows = []
    for token, x_D in enumerate(x_TD):
        y_D = torch.zeros_like(x_D)
        for place in range(token * CHOSEN, (token + 1) * CHOSEN):
            gate_F, up_F = (up_EXD[experts_t[place]] @ x_D).chunk(2)
            y_D = y_D + gates_t[place] * (down_EDF[experts_t[place]] @ (F.silu(gate_F) * up_F))
        rows.append(y_D)
    return torch.stack(rows)


@pytest.mark.parametrize("parts", [1, 2])
def test_experts_and_their_gradients(parts: int) -> None:
    """With the gate and up projections in one tensor and, as AutoEP has them, in two; an expert has no token."""
    torch.manual_seed(0)
    x_TD, gates_t = _doubles(5, HIDDEN), _doubles(5 * CHOSEN)
    down_EDF, up_EXD = _doubles(EXPERTS, HIDDEN, WIDTH), _doubles(EXPERTS, 2 * WIDTH, HIDDEN)
    experts_t = torch.stack([torch.randperm(EXPERTS - 1)[:CHOSEN] for _ in range(5)]).flatten()
    routing = Routing(experts_t, EXPERTS, CHOSEN)
    inputs = (x_TD, gates_t, down_EDF, up_EXD)
    y_TD = gated_experts(x_TD, gates_t, routing, down_EDF, *up_EXD.chunk(parts, dim=1))
    slow_TD = _one_by_one(x_TD, gates_t, experts_t, down_EDF, up_EXD)
    torch.testing.assert_close(y_TD, slow_TD)
    dy_TD = torch.randn_like(y_TD)
    gradients = torch.autograd.grad(y_TD, inputs, dy_TD)
    torch.testing.assert_close(gradients, torch.autograd.grad(slow_TD, inputs, dy_TD))
    assert not gradients[3][EXPERTS - 1].any()


@pytest.mark.parametrize("parts", [1, 2])
def test_the_grouped_kernel_is_handed_the_same_products(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on a GPU, on the CPU's version of the same kernel; `bench/gpu.py` runs the real one."""
    torch.manual_seed(0)
    inputs = [
        torch.randn(shape).requires_grad_()
        for shape in ((5, HIDDEN), (5 * CHOSEN,), (EXPERTS, HIDDEN, WIDTH), (EXPERTS, 2 * WIDTH, HIDDEN))
    ]
    experts_t = torch.stack([torch.randperm(EXPERTS - 1)[:CHOSEN] for _ in range(5)]).flatten()
    dy_TD = torch.randn(5, HIDDEN)
    found = []
    for takes in (False, True):
        monkeypatch.setattr("model.architecture.grouped.takes_grouped", lambda *operands, takes=takes: takes)
        x_TD, gates_t, down_EDF, up_EXD = inputs
        routing = Routing(experts_t, EXPERTS, CHOSEN)
        y_TD = gated_experts(x_TD, gates_t, routing, down_EDF, *up_EXD.chunk(parts, dim=1))
        found.append((y_TD, *torch.autograd.grad(y_TD, inputs, dy_TD)))
        assert ("slices" in vars(routing)) is not takes, "the grouped kernel waits for no length"
    torch.testing.assert_close(*found)
    assert not found[1][4][EXPERTS - 1].any()


def test_rows_brought_together() -> None:
    experts_t = torch.tensor([2, 0, 1, 2, 0, 1])
    routing = Routing(experts_t, 3, 2)
    rows_tD = torch.randn(6, HIDDEN)
    together_TKD = routing.brought_together(rows_tD, 2)
    assert torch.equal(together_TKD.flatten(0, 1)[routing.order_t], rows_tD)
    torch.testing.assert_close(together_TKD.sum(1), routing.summed(rows_tD, torch.zeros(3, HIDDEN)))


def test_no_token_at_all() -> None:
    y_TD = gated_experts(
        torch.zeros(0, HIDDEN), torch.zeros(0), Routing(torch.zeros(0, dtype=torch.int64), EXPERTS, CHOSEN),
        torch.ones(EXPERTS, HIDDEN, WIDTH), torch.ones(EXPERTS, 2 * WIDTH, HIDDEN),
    )  # fmt: skip
    assert y_TD.shape == (0, HIDDEN)


@pytest.mark.parametrize("length", [2, BLOCK, BLOCK + 37])
@pytest.mark.parametrize("value", [8, 16])
@pytest.mark.parametrize("is_packed", [False, True])
def test_attention_in_blocks(length: int, value: int, is_packed: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, length, 3, width, requires_grad=True) for width in (16, 16, value))
    documents_BT = (torch.arange(length) // 40).expand(2, -1)
    mask = document_mask(documents_BT, torch.float32, 16) if is_packed else None
    assert mask is None or isinstance(mask, Tensor)
    assert suits_blocks(q, k, mask)
    seen = torch.ones(length, length, dtype=torch.bool).tril() if mask is None else mask[:, None] == 0
    ours = attend_in_blocks(q, k, v, mask, 0.3)
    plain = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), seen, scale=0.3
    ).transpose(1, 2)
    torch.testing.assert_close(ours, plain)
    dy = torch.randn_like(ours)
    torch.testing.assert_close(torch.autograd.grad(ours, (q, k, v), dy), torch.autograd.grad(plain, (q, k, v), dy))


@pytest.mark.parametrize("ignored", [0.0, 0.5, 1.0])
def test_the_loss_without_the_logits(ignored: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = OutputLayer(HIDDEN, (1 << 20) // LEAST_ROWS * 2)  # so wide that a chunk has the least of rows
    h = torch.randn(2, LEAST_ROWS, HIDDEN, requires_grad=True)
    targets = torch.randint(0, layer.out_features, h.shape[:2])
    targets[torch.rand(targets.shape) < ignored] = IGNORED
    plain = F.cross_entropy(layer(h).flatten(0, 1), targets.flatten(), reduction="sum")
    loss = layer(h, targets)
    torch.testing.assert_close(loss, plain)
    inputs = (h, layer.weight)
    torch.testing.assert_close(torch.autograd.grad(loss / 7, inputs), torch.autograd.grad(plain / 7, inputs))
    monkeypatch.delattr(torch, "mm")  # the gradient of the states
    with torch.no_grad():
        torch.testing.assert_close(layer(h, targets), plain)
