"""Which of the ranks a process is, and which device it computes on. A launcher tells it by variables."""

from __future__ import annotations

import os

import torch

__all__ = ["own_device", "own_rank", "world_size"]


def own_device() -> torch.device:
    """The GPU of this process, by its ``LOCAL_RANK`` among the machine's; the CPU where there is none."""
    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu")


def own_rank() -> int:
    """Number of this process among the ranks, by its ``RANK``; 0 where there are no others."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many ranks there are, by ``WORLD_SIZE``."""
    return int(os.environ.get("WORLD_SIZE", "1"))
