"""A training whose ranks and nodes are killed in the middle, once each; importable by ranks."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import torch

from model.architecture.checkpoint import save_model
from model.training.batches import TrainingBatch
from model.training.next_token import train
from model.training.ranks import leave
from tests.model.conftest import tiny_model
from tests.model.synthetic import CountingBatches, small_training


class FragileBatches(CountingBatches):
    """As the base class; at some steps the last rank's process, or its whole node, is killed, the first time only."""

    def __init__(self, folder: Path, rank_at: int | None, node_at: int | None, wait_at: int | None) -> None:
        super().__init__()
        self.folder, self.rank_at, self.node_at, self.wait_at = folder, rank_at, node_at, wait_at

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """As the base class, after the deed."""
        if rank == world - 1:
            if step == self.rank_at and self._first("rank"):
                os.kill(os.getpid(), signal.SIGKILL)
            if step == self.node_at and self._first("node"):
                agent = psutil.Process().parent()
                assert agent is not None
                agent.kill()
                os.kill(os.getpid(), signal.SIGKILL)
            if step == self.wait_at:  # a sign for whoever watches
                self._first("waiting")
        return super().batch(step, rank, world)

    def _first(self, what: str) -> bool:
        try:
            (self.folder / what).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def run_rank(argument: dict[str, Any]) -> None:
    """Train as one rank; rank 0 leaves the history and the model in ``argument["out"]``."""
    torch.set_num_threads(1)
    out = Path(argument["out"])
    source = FragileBatches(out, argument.get("rank_at"), argument.get("node_at"), argument.get("wait_at"))
    config = small_training(steps=argument.get("steps", 6))
    result = train(tiny_model(), source, config, out / "snapshots")
    if result.model is not None:
        save_model(result.model, out / "model", None)
        (out / "history.json").write_text(json.dumps(result.history, sort_keys=True))
    leave()
