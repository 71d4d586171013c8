"""The attention kernel: FlashAttention over packed documents on CUDA, blocks of queries where a CPU trains
(`model.architecture.causal`), scaled dot product attention elsewhere.

Which one runs is chosen here, and whose FlashAttention it is in `model.architecture.varlen`. A packed row holds several
documents, each of which sees itself alone. The others are told so by a mask [T, T] per row, which costs T^2 work and
memory; FlashAttention's variable-length kernel takes the lengths of the documents instead and never looks across. All
give the same numbers up to rounding.

Shapes: B rows, T new tokens, S seen tokens, N heads, G key-value heads, Q query and key width, V value width
(W and X as a kernel takes them), M documents, t = B T tokens laid end to end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.architecture.causal import attend_in_blocks, suits_blocks
from model.architecture.varlen import Kernel, attend_documents, kernel_widths

__all__ = ["BEGINNING", "Documents", "Mask", "attend", "document_mask", "document_starts", "takes_flash"]

BEGINNING = -1
"""Number of the document that a row begins with and all others of the row go on from."""

FLASH_WIDTH = 256
"""Widest head of the FlashAttention kernels."""
FLASH_TYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Documents:
    """Where each document of a batch of packed rows lies, when the rows are laid end to end."""

    starts_M1: Tensor
    """int32: the first token of each document, and the number of all tokens."""
    longest: int
    """Tokens that no document has more of: those of a row. Asking for the longest would wait for the device."""
    kernel: Kernel = Kernel.TORCH

    @classmethod
    def of(cls, documents_BT: Tensor) -> Documents:
        """From the number of each token's document within its row."""
        return cls(document_starts(documents_BT), documents_BT.shape[1])


def document_starts(documents_BT: Tensor) -> Tensor:
    """The first token of each document of rows laid end to end, and the number of all tokens: int32 [M + 1].

    `documents_BT` has the number of each token's document within its row; a document is a run of equal numbers. How
    many there are must be known to make room for them: asked of a GPU, this waits for all work before.
    """
    is_first_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    is_first_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    starts_M = is_first_BT.flatten().nonzero().flatten()
    starts_M1 = torch.cat((starts_M, starts_M.new_tensor([documents_BT.numel()])))
    return starts_M1.to(torch.int32)


Mask = Tensor | Documents | None
"""What a token may see: [B, T, S], boolean or added to the logits; the documents of packed rows; or None for everything
before it."""


def takes_flash(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether FlashAttention has a kernel for heads of this width: a GPU since Ampere, a 16-bit type."""
    if device.type != "cuda" or dtype not in FLASH_TYPES or width > FLASH_WIDTH:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def document_mask(
    documents_BT: Tensor,
    dtype: torch.dtype,
    width: int,
    *,
    branches: bool = False,
    starts_M1: Tensor | None = None,
    kernel: Kernel = Kernel.TORCH,
) -> Mask:
    """The mask of packed rows, in the form that the kernel for this device, `dtype` and head width takes.

    With `branches` documents see `BEGINNING` besides themselves, which no kernel but the masked one can do. `starts_M1`
    is what `document_starts` found before the rows went to a device, `kernel` what computes where no mask is needed.
    """
    if not branches and takes_flash(documents_BT.device, dtype, width):
        starts_M1 = document_starts(documents_BT) if starts_M1 is None else starts_M1
        return Documents(starts_M1, documents_BT.shape[1], kernel)
    length = documents_BT.shape[1]
    causal_TT = torch.ones(length, length, dtype=torch.bool, device=documents_BT.device).tril()
    seen_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    if branches:
        seen_BTT |= (documents_BT == BEGINNING)[:, None, :]
    hidden_BTT = (seen_BTT & causal_TT).logical_not_()
    # What SDPA would make of a boolean mask in every layer anew, and keep for the backward pass.
    return torch.zeros(hidden_BTT.shape, dtype=dtype, device=documents_BT.device).masked_fill_(hidden_BTT, -torch.inf)


def attend(q_BTNQ: Tensor, k_BSGQ: Tensor, v_BSGV: Tensor, mask: Mask, scale: float) -> Tensor:
    """Attention [B, T, N, V]; every N / G query heads share a key-value head."""
    if isinstance(mask, Documents):
        return _flash(q_BTNQ, k_BSGQ, v_BSGV, mask, scale)
    shared = q_BTNQ.shape[2] // k_BSGQ.shape[2]
    if shared > 1:
        k_BSGQ, v_BSGV = k_BSGQ.repeat_interleave(shared, dim=2), v_BSGV.repeat_interleave(shared, dim=2)
    if suits_blocks(q_BTNQ, k_BSGQ, mask):
        return attend_in_blocks(q_BTNQ, k_BSGQ, v_BSGV, mask, scale)
    q_BNTQ, k_BNSQ, v_BNSV = q_BTNQ.transpose(1, 2), k_BSGQ.transpose(1, 2), v_BSGV.transpose(1, 2)
    seen_B1TS = None if mask is None else mask[:, None]
    y_BNTV = F.scaled_dot_product_attention(q_BNTQ, k_BNSQ, v_BNSV, seen_B1TS, is_causal=mask is None, scale=scale)
    return y_BNTV.transpose(1, 2)


def _flash(q_BTNQ: Tensor, k_BTGQ: Tensor, v_BTGV: Tensor, documents: Documents, scale: float) -> Tensor:
    """FlashAttention within each document."""
    value = v_BTGV.shape[-1]
    wide, narrow = kernel_widths(documents.kernel, q_BTNQ.shape[-1], value)
    q_tNW, k_tGW, v_tGX = (
        F.pad(x, (0, width - x.shape[-1])).flatten(0, 1)
        for x, width in ((q_BTNQ, wide), (k_BTGQ, wide), (v_BTGV, narrow))
    )
    y_tNX = attend_documents(documents.kernel, q_tNW, k_tGW, v_tGX, documents.starts_M1, documents.longest, scale)
    return y_tNX[..., :value].unflatten(0, q_BTNQ.shape[:2])
