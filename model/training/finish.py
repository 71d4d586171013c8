"""What every training stage leaves: the trained checkpoint and the history of its run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.architecture.checkpoint import save_model, with_prediction, write_json
from model.architecture.transformer import Transformer
from model.training.journal import Row
from model.training.lora import Adapters
from model.training.ranks import RankJob

__all__ = ["write_artifact"]


def write_artifact(
    job: RankJob[Any],
    model: Transformer,
    steps: Sequence[Row],
    evaluations: Sequence[Row] = (),
    *,
    begun: Path | None = None,
    adapters: Adapters | None = None,
) -> None:
    """Write ``model/`` with the tokenizer, ``history.json``, and of low-rank adapters ``adapter/`` in peft's format.

    Args:
        adapters: those of `model`, into which they are merged for good.
        begun: the checkpoint that was gone on from, whose layers of multi-token prediction are handed on where they
            were not trained.
    """
    if adapters is not None:
        adapters.write(job.out_dir / "adapter")
        adapters.merge()
    if begun is not None:
        model = with_prediction(model, begun)
    save_model(model, job.out_dir / "model", job.inputs["tokenizer"])
    write_json(job.out_dir / "history.json", {"steps": steps, "validation": list(evaluations)})
