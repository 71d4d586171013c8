"""What the nodes of a job must know, and how they are told."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

__all__ = ["ADDRESS", "FIRST_PORT", "HEAD", "NODE", "PORTS", "NodeJob"]

NODE, HEAD = "DEEPMILL_NODE", "DEEPMILL_HEAD"
ADDRESS = "DEEPMILL_ADDRESS"
"""Address by which the other nodes reach this one, where its hostname does not do."""
FIRST_PORT, PORTS = 29_400, 2_000


class NodeJob(BaseModel):
    """What every node must know; a file that all of them read."""

    target: str
    argument: Any
    nodes: int
    ranks_per_node: int
    restarts: int
    timeout_seconds: float
    reports: str
    """Folder for the ranks' reports; all nodes see it."""
    environment: dict[str, str] = {}
