"""One process group trains through many layouts, one after the other; importable by ranks.

A job is ``{"name", "execution", "family", "changes", "training", "stop", "idle"}``: train the tiny model in that
layout, in the folder of that name (jobs with the same name go on from each other's checkpoints), and stop before step
`stop` if there is one. In step `idle` there is nothing to learn.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from infra.execution import ENVIRONMENT_KEY
from model.architecture.checkpoint import save_model
from model.training.batches import TrainingBatch
from model.training.next_token import train
from model.training.ranks import leave
from tests.model.conftest import tiny_model
from tests.model.synthetic import CountingBatches, small_training


class StoppedError(Exception):
    """The job was to stop here."""


class StoppingBatches(CountingBatches):
    """As the base class, up to a step; in another one there is nothing to learn."""

    def __init__(self, stop: int | None, idle: int | None = None) -> None:
        super().__init__()
        self.stop, self.idle = stop, idle

    def batch(self, step: int, rank: int, world: int) -> TrainingBatch:
        """As the base class; raises `StoppedError` at the step."""
        if step == self.stop:
            raise StoppedError
        batch = super().batch(step, rank, world)
        if step != self.idle:
            return batch
        return TrainingBatch(batch.tokens_BT, batch.documents_BT, torch.zeros_like(batch.tokens_BT).bool())


def run_job(job: dict[str, Any], folder: Path) -> None:
    """Train as one rank; rank 0 leaves ``history.json`` and the model in the job's folder when it came to the end."""
    os.environ[ENVIRONMENT_KEY] = json.dumps({"checkpoints": {"seconds": 0}} | job["execution"])
    out = folder / job["name"]
    model = tiny_model(job.get("family", "deepseek_v3"), **job.get("changes", {}))
    config = small_training(**job.get("training", {}))
    try:
        result = train(model, StoppingBatches(job.get("stop"), job.get("idle")), config, out / "snapshots")
    except StoppedError:
        return
    if result.model is not None:
        save_model(result.model, out / "model", None)
        (out / "history.json").write_text(json.dumps(result.history))


def run_rank(argument: dict[str, Any]) -> None:
    """Do all jobs as one rank."""
    torch.set_num_threads(1)
    for job in argument["jobs"]:
        run_job(job, Path(argument["folder"]))
    leave()
