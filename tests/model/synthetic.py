"""Batches made of nothing, for the tests of training. Importable by ranks."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch

from model.architecture.checkpoint import save_model
from model.sections import TrainingConfig
from model.training.batches import TrainingBatch
from model.training.next_token import train
from model.training.ranks import leave
from tests.model.conftest import tiny_config, tiny_model


class CountingBatches:
    """Rows that count upwards from random numbers, in two documents; learnable within a few steps."""

    def __init__(self, rows: int = 8, length: int = 16) -> None:
        self.rows, self.length = rows, length

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """The rows ``rank::world`` of a batch that `step` determines."""
        generator = torch.Generator().manual_seed(step)
        start = torch.randint(0, 90, (self.rows, 2), generator=generator)
        half = self.length // 2
        tokens_BT = (start.repeat_interleave(half, dim=1) + torch.arange(half).repeat(2)) % 97
        documents_BT = torch.arange(2).repeat_interleave(half).expand(self.rows, -1)
        mask_BT = torch.rand(self.rows, self.length, generator=generator) < 0.9
        mine = slice(rank, None, world)
        return TrainingBatch(tokens_BT[mine], documents_BT[mine], mask_BT[mine])


class PoisonedBatches(CountingBatches):
    """Kills or terminates this process when a step is asked for."""

    def __init__(self, at: int, signum: int) -> None:
        super().__init__()
        self.at, self.signum = at, signum

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """As the base class, after the deed."""
        if step == self.at and rank == world - 1:
            os.kill(os.getpid(), self.signum)
        return super().batch(step, rank, world)


def small_training(**changes: object) -> TrainingConfig:
    """A run of a few steps."""
    fields: dict[str, object] = {
        "steps": 6,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "warmup_steps": 2,
        "balance_loss": 0.01,
        "bias_update_speed": 0.01,
    }
    return TrainingConfig.model_validate(fields | changes)


def run_rank(argument: dict[str, Any]) -> None:
    """Train a tiny model as one rank; rank 0 writes the history and the model into ``argument["out"]``."""
    torch.set_num_threads(1)
    out = Path(argument["out"])
    model = tiny_model(argument["family"], **argument.get("changes", {}))
    source = CountingBatches()
    if "kill_at" in argument:
        source = PoisonedBatches(argument["kill_at"], argument.get("signal", signal.SIGKILL))
    config = small_training(**argument.get("training", {}))
    result = train(model, source, config, out / "snapshots")
    if result.model is not None:
        save_model(result.model, out / "model", None)
        (out / "history.json").write_text(json.dumps(result.history))
    leave()


__all__ = ["CountingBatches", "PoisonedBatches", "run_rank", "small_training", "tiny_config"]
