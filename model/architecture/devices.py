"""Which device a process computes on."""

from __future__ import annotations

import os

import torch

__all__ = ["own_device"]


def own_device() -> torch.device:
    """The GPU of this process, by its ``LOCAL_RANK`` among the machine's; the CPU where there is none."""
    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu")
