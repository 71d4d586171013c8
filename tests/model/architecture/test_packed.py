"""The attention kernel's choice, and what FlashAttention is handed: shapes, types, lengths and masks, without a GPU.

The kernel itself is replaced by a slow one that follows its documented contract; ``python -m bench.gpu --part
attention`` runs the real ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import model.architecture.packed
import model.architecture.varlen
from model.architecture.config import Family
from model.architecture.packed import Documents, attend, document_mask, takes_flash
from model.architecture.varlen import Kernel
from model.training.batches import TrainingBatch
from tests.model.conftest import tiny_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def _slow_varlen(
    q_tNW: Tensor,
    k_tGW: Tensor,
    v_tGW: Tensor,
    starts_q: Tensor,
    starts_k: Tensor,
    longest_q: int,
    longest_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool = False,
) -> Tensor:
    """`torch.nn.attention.varlen.varlen_attn` as its documentation has it, for causal self-attention."""
    assert q_tNW.dim() == 3
    assert k_tGW.shape == v_tGW.shape
    assert q_tNW.shape[::2] == k_tGW.shape[::2]
    assert q_tNW.shape[-1] % 8 == 0
    assert starts_q is starts_k
    assert starts_q.dtype == torch.int32
    assert starts_q[0] == 0
    assert starts_q[-1] == len(q_tNW)
    assert longest_q == longest_k >= int(starts_q.diff().max())
    assert window_size == (-1, 0)
    assert enable_gqa == (q_tNW.shape[1] > k_tGW.shape[1])
    return _slow(Kernel.TORCH, q_tNW, k_tGW, v_tGW, starts_q, longest_q, scale)


def _slow(
    kernel: Kernel, q_tNW: Tensor, k_tGW: Tensor, v_tGX: Tensor, starts_M1: Tensor, longest: int, scale: float
) -> Tensor:
    """`model.architecture.varlen.attend_documents`, a document and a head at a time."""
    shared = q_tNW.shape[1] // k_tGW.shape[1]
    out = q_tNW.new_empty(*q_tNW.shape[:2], v_tGX.shape[-1])
    for first, end in zip(starts_M1[:-1].tolist(), starts_M1[1:].tolist(), strict=True):
        for head in range(q_tNW.shape[1]):
            q, k, v = q_tNW[first:end, head], k_tGW[first:end, head // shared], v_tGX[first:end, head // shared]
            seen = torch.ones(end - first, end - first, dtype=torch.bool).tril()
            out[first:end, head] = (q @ k.T * scale).masked_fill(~seen, float("-inf")).softmax(-1) @ v
    return out


@pytest.fixture
def slow_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.architecture.varlen, "_torch_function", lambda: _slow_varlen)


DOCUMENTS = torch.tensor([[0] * 5 + [1] * 1 + [2] * 6, [0] * 12, [7] * 11 + [0]])


def test_documents_of_packed_rows() -> None:
    documents = Documents.of(DOCUMENTS)
    assert documents.starts_M1.tolist() == [0, 5, 6, 12, 24, 35, 36]
    assert documents.starts_M1.dtype == torch.int32
    assert documents.longest == 12


@pytest.mark.parametrize(
    ("heads", "shared", "query", "value"), [(4, 1, 16, 16), (4, 2, 16, 16), (4, 4, 8, 8), (4, 1, 20, 12), (2, 1, 8, 24)]
)
@pytest.mark.usefixtures("slow_kernel")
def test_flash_equals_the_mask(heads: int, shared: int, query: int, value: int) -> None:
    torch.manual_seed(0)
    q_BTNQ = torch.randn(3, 12, heads, query)
    k_BTGQ, v_BTGV = (torch.randn(3, 12, heads // shared, width) for width in (query, value))
    mask_BTT = document_mask(DOCUMENTS, torch.float32, query)
    assert isinstance(mask_BTT, Tensor), "no FlashAttention on a CPU"
    masked = attend(q_BTNQ, k_BTGQ, v_BTGV, mask_BTT, 0.3)
    flash = attend(q_BTNQ, k_BTGQ, v_BTGV, Documents.of(DOCUMENTS), 0.3)
    assert flash.shape == (3, 12, heads, value)
    torch.testing.assert_close(flash, masked, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", list(Kernel))
@pytest.mark.parametrize(("shared", "query", "value"), [(1, 16, 16), (2, 16, 16), (1, 20, 12), (1, 188, 124)])
def test_what_every_kernel_is_handed(
    kernel: Kernel, shared: int, query: int, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients of documents laid end to end, in the widths that the kernel takes, are the mask's."""
    handed = []

    def noted(kernel: Kernel, *operands: Any) -> Tensor:
        handed.append((kernel, *(x.shape[-1] for x in operands[:3])))
        return _slow(kernel, *operands)

    monkeypatch.setattr(model.architecture.packed, "attend_documents", noted)
    torch.manual_seed(0)
    inputs = [
        torch.randn(3, 12, heads, width, requires_grad=True)
        for heads, width in ((2, query), (2 // shared, query), (2 // shared, value))
    ]
    found = []
    for mask in (document_mask(DOCUMENTS, torch.float32, query), replace(Documents.of(DOCUMENTS), kernel=kernel)):
        y_BTNV = attend(*inputs, mask, 0.1)
        found.append([y_BTNV, *torch.autograd.grad(y_BTNV.square().sum(), inputs)])
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-5)
    wide = -(-query // 8) * 8
    assert handed == [(kernel, wide, wide, 128 if query > 128 and kernel is Kernel.FLASH3 else wide)]


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.usefixtures("slow_kernel")
def test_the_whole_model_gives_the_same_on_both_paths(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    transformer = tiny_model(family)
    tokens_BT = torch.randint(0, 97, (3, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        masked = transformer(tokens_BT, documents_BT=DOCUMENTS)
        chosen = []

        def yes(device: torch.device, dtype: torch.dtype, width: int) -> bool:
            chosen.append((device.type, dtype, width))
            return True

        monkeypatch.setattr(model.architecture.packed, "takes_flash", yes)
        flash = transformer(tokens_BT, documents_BT=DOCUMENTS)
    torch.testing.assert_close(flash, masked, atol=2e-5, rtol=1e-5)
    width = 16 if transformer.config.has_latent_attention else 8
    assert chosen == [("cpu", torch.float32, width)]


def test_autocast_decides_the_type(monkeypatch: pytest.MonkeyPatch) -> None:
    transformer, asked = tiny_model(), []
    monkeypatch.setattr(model.architecture.packed, "takes_flash", lambda device, dtype, width: asked.append(dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        transformer(torch.zeros(1, 4, dtype=torch.int64), documents_BT=torch.zeros(1, 4, dtype=torch.int64))
    assert asked == [torch.bfloat16]


@pytest.mark.parametrize(
    ("device", "dtype", "width", "capability", "expected"),
    [
        (CUDA, torch.bfloat16, 192, (9, 0), True),
        (CUDA, torch.float16, 256, (8, 0), True),
        (CUDA, torch.bfloat16, 128, (7, 5), False),  # Turing
        (CUDA, torch.float32, 128, (9, 0), False),
        (CUDA, torch.bfloat16, 320, (9, 0), False),
        (CPU, torch.bfloat16, 128, (9, 0), False),
    ],
)
def test_where_flash_is_taken(
    device: torch.device,
    dtype: torch.dtype,
    width: int,
    capability: tuple[int, int],
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert takes_flash(device, dtype, width) is expected


def test_the_real_kernel_takes_what_it_is_given() -> None:
    """On the meta device nothing is computed, but the operator's own checks of arguments and shapes run."""
    with torch.device("meta"):
        q_BTNQ = torch.empty(3, 12, 4, 24, dtype=torch.bfloat16)
        k_BTGQ = torch.empty(3, 12, 2, 24, dtype=torch.bfloat16)
        v_BTGV = torch.empty(3, 12, 2, 16, dtype=torch.bfloat16)
    documents = Documents(Documents.of(DOCUMENTS).starts_M1.to("meta"), 12)
    out = attend(q_BTNQ, k_BTGQ, v_BTGV, documents, 0.2)
    assert out.shape == (3, 12, 4, 16)
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("depths", [0, 1])
def test_nobody_waits_for_a_device_to_say_how_many(depths: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device computes nothing, so whatever asks it for a number of its own fails there: documents and learned
    tokens are found where the batch is made."""
    meta = torch.device("meta")
    batch = TrainingBatch(DOCUMENTS, DOCUMENTS)
    transformer = tiny_model(first_k_dense_replace=4, num_nextn_predict_layers=depths).to(meta, torch.bfloat16)
    monkeypatch.setattr(model.architecture.packed, "takes_flash", lambda *asked: True)
    monkeypatch.setattr("torch.is_autocast_enabled", lambda kind: False)  # which does not know the meta device
    found, starts = batch.learned(depths, meta), batch.starts(depths, meta)
    assert starts is not None
    assert [len(each) for each in starts] == [7, 6][: depths + 1]
    there = batch.to(meta)
    losses = transformer(there.tokens_BT, documents_BT=there.documents_BT, targets=found, starts=starts)
    assert [loss.shape for loss in losses] == [()] * (depths + 1)
    with pytest.raises(NotImplementedError, match="nonzero"):
        transformer(there.tokens_BT, documents_BT=there.documents_BT, targets=found)
    targets = [there.tokens_BT[:, depth:] for depth in range(depths + 1)]
    with pytest.raises(NotImplementedError, match="nonzero"):
        transformer(there.tokens_BT, documents_BT=there.documents_BT, targets=targets, starts=starts)
