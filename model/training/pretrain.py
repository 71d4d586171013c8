"""The stage `pretrain`: from token shards to a base model.

Artifact: ``model/`` (a Hugging Face checkpoint with the tokenizer) and ``history.json`` (loss, learning rate, gradient
norm and expert load of every step, and the validations).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from model.architecture.config import count_parameters
from model.facts.training import PretrainMetrics
from model.sections import PretrainConfig
from model.training.ranks import RankJob, run_ranks, user_errors

__all__ = ["pretrain"]


def pretrain(config: PretrainConfig, inputs: Mapping[str, Path], out_dir: Path) -> PretrainMetrics:
    """Train from random weights on the artifact `shards` with the vocabulary of `tokenizer`.

    With more than one rank, the ranks are processes of their own and this one only waits.

    Raises:
        UserError: the shards do not fit the config, or training went wrong.
    """
    return run_ranks("model.training.pretrain:run_rank", PretrainMetrics, config, inputs, out_dir)


def run_rank(job: RankJob[PretrainConfig]) -> PretrainMetrics | None:
    """One rank's part; rank 0 writes the artifact."""
    import torch

    from infra.hashing import file_digest
    from model.architecture.transformer import Transformer
    from model.training.diagnosis import Diagnosis
    from model.training.finish import write_artifact
    from model.training.initial import draw_weights
    from model.training.next_token import Validation, train
    from model.training.sources import read_shards, token_bytes

    config, shards = job.config, job.inputs["shards"]
    with user_errors("pretrain"):
        bytes_V = token_bytes(job.inputs["tokenizer"])
        architecture = config.model.with_vocabulary(len(bytes_V))
        training = read_shards(shards, "train", config, config.mixture)
        seed = config.seed if config.validation_seed is None else config.validation_seed
        held_out = read_shards(shards, "validation", config.model_copy(update={"seed": seed}))
        batches = min(-(-config.validation_sequences // config.batch_size), max(1, held_out.rows // config.batch_size))
        torch.manual_seed(config.seed)
        model = Transformer(architecture)
        draw_weights(model, config.initial, config.seed)
        result = train(
            model,
            training.ahead(config.steps),
            config,
            job.snapshots,
            validation=Validation(held_out, batches, bytes_V),
            evaluate=Diagnosis(held_out, architecture.vocab_size, config) if config.diagnose else None,
            identity=file_digest(shards / "shards.json"),  # it lists the checksums of the rows
        )
    if result.model is None:
        return None
    write_artifact(job, result.model, result.history, result.validation)
    return PretrainMetrics(
        parameters=count_parameters(architecture),
        parameters_active=count_parameters(architecture, active=True),
        **dict(result.metrics()),
    )
