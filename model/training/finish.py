"""What every training stage leaves: the trained checkpoint and the history of its run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.architecture.checkpoint import save_model, write_json
from model.architecture.transformer import Transformer
from model.training.journal import Row
from model.training.ranks import RankJob

__all__ = ["write_artifact"]


def write_artifact(
    job: RankJob[Any], model: Transformer, steps: Sequence[Row], evaluations: Sequence[Row] = ()
) -> None:
    """Write ``model/`` with the tokenizer, and ``history.json``."""
    save_model(model, job.out_dir / "model", job.inputs["tokenizer"])
    write_json(job.out_dir / "history.json", {"steps": steps, "validation": list(evaluations)})
