"""The stage `pretrain`: from token shards to a base model.

Artifact: ``model/`` (a Hugging Face checkpoint with the tokenizer) and ``history.json`` (loss, learning rate, gradient
norm and expert load of every step, and the validations).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.errors import UserError
from model.architecture.config import count_parameters
from model.sections import PretrainConfig
from model.training.ranks import run_ranks

__all__ = ["pretrain"]


def pretrain(config: PretrainConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Train from random weights on the artifact `shards` with the vocabulary of `tokenizer`.

    With more than one rank, the ranks are processes of their own and this one only waits.

    Raises:
        UserError: the shards do not fit the config, or training went wrong.
    """
    return run_ranks("model.training.pretrain:run_rank", config, inputs, out_dir)


def run_rank(argument: dict[str, Any]) -> None:
    """One rank's part; rank 0 writes the artifact. Its metrics go through a file in ``.work``."""
    import torch

    from infra.hashing import file_digest
    from model.architecture.checkpoint import save_model, write_json
    from model.architecture.transformer import Transformer
    from model.training.engine import threads_for
    from model.training.loop import Validation, train
    from model.training.sources import ShardBatches, token_bytes
    from pipeline.tokens.reader import ShardReader

    config = PretrainConfig.model_validate(argument["config"])
    shards, tokenizer = Path(argument["inputs"]["shards"]), Path(argument["inputs"]["tokenizer"])
    out_dir = Path(argument["out_dir"])
    torch.set_num_threads(threads_for(int(os.environ.get("WORLD_SIZE", "1"))))
    try:
        bytes_V = token_bytes(tokenizer)
        architecture = config.model.with_vocabulary(len(bytes_V))
        training = ShardReader(
            shards, "train", global_batch=config.batch_size, seed=config.seed, mixture=config.mixture
        )
        held_out = ShardReader(shards, "validation", global_batch=config.batch_size, seed=config.seed)
        batches = min(-(-config.validation_sequences // config.batch_size), max(1, held_out.rows // config.batch_size))
        validation = Validation(ShardBatches(held_out), batches, bytes_V)
        torch.manual_seed(config.seed)
        model = Transformer(architecture)
        result = train(
            model,
            ShardBatches(training),
            config,
            out_dir / ".work" / "snapshots",
            validation=validation,
            identity=file_digest(shards / "shards.json"),  # it lists the checksums of the rows
        )
    except ValueError as error:
        raise UserError(f"pretrain: {error}") from error
    if result.model is not None:
        save_model(result.model, out_dir / "model", tokenizer)
        write_json(out_dir / "history.json", {"steps": result.history, "validation": result.validation})
        sizes = {
            "parameters": count_parameters(architecture),
            "parameters_active": count_parameters(architecture, active=True),
        }
        write_json(out_dir / ".work" / "metrics.json", sizes | result.metrics())
