"""The stage `continued`: a base model goes on with a mixture of domain and general text (DeepSeekMath, section 2.3).

Two numbers are watched side by side, bits per byte of the domain's held-out text and of all the other sources': what is
gained, and what is forgotten for it. It starts from `pretrain`'s model, or from any Hugging Face checkpoint of a family
that this project knows, whose vocabulary grows by the tokens of the chat format where it lacks them.

Artifact: as of `pretrain`, with low-rank adapters ``adapter/`` in peft's format, which ``model/`` has merged; the
validations in ``history.json`` hold the bits per byte of every source.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from infra import events
from infra.errors import UserError
from model.architecture.config import count_parameters
from model.facts.training import ContinuedMetrics, rise
from model.finetune_sections import ContinuedConfig
from model.training.ranks import RankJob, run_ranks, user_errors
from model.training.start import check_finite, checkpoint_folder

if TYPE_CHECKING:
    from model.training.journal import Row

__all__ = ["continued"]


def continued(config: ContinuedConfig, inputs: Mapping[str, Path], out_dir: Path) -> ContinuedMetrics:
    """Train the model of `pretrain`, or of `checkpoint`, on the artifact `shards`.

    Raises:
        UserError: inputs that do not fit together, training that went wrong, too much forgotten.
    """
    return run_ranks("model.training.continued:run_rank", ContinuedMetrics, config, inputs, out_dir)


def run_rank(job: RankJob[ContinuedConfig]) -> ContinuedMetrics | None:
    """One rank's part; rank 0 writes the artifact."""
    from infra.hashing import file_digest
    from model.architecture.checkpoint import load_model
    from model.architecture.vocabulary import fit_vocabulary
    from model.training.finish import write_artifact
    from model.training.lineage import weight_files
    from model.training.lora import adapt, adapter_files, without_moving_bias
    from model.training.next_token import train
    from model.training.reading import Reading
    from model.training.sources import read_shards

    config, shards = job.config, job.inputs["shards"]
    start = _start(job)
    begun = load_model(start, prediction=config.lora is None)
    check_finite(begun, start)
    model = fit_vocabulary(begun, start, job.inputs["tokenizer"])
    adapters = adapt(model, config.lora, config.seed) if config.lora is not None else None
    with user_errors("continued"):
        reading = Reading(
            shards,
            job.inputs["tokenizer"],
            config.validation_sequences,
            domain=config.domain,
            document_mask=config.document_mask,
        )
        result = train(
            model.train(),
            read_shards(shards, "train", config, config.mixture).ahead(config.steps),
            config if adapters is None else without_moving_bias(config),
            job.snapshots,
            evaluate=reading,
            identity="".join(
                map(file_digest, (shards / "shards.json", *weight_files(start), *adapter_files(config.lora)))
            ),
            phase="continued pretraining",
        )
    if result.model is None:
        return None
    lost = _forgotten(config, result.validation[0], result.validation[-1])
    begun_from = start if adapters is not None else None
    write_artifact(job, result.model, result.history, result.validation, begun=begun_from, adapters=adapters)
    return ContinuedMetrics(
        parameters=count_parameters(model.config),
        forgetting=lost,
        **(adapters.shares() if adapters is not None else {}),
        **dict(result.metrics()),
    )


def _start(job: RankJob[ContinuedConfig]) -> Path:
    """The checkpoint to go on from."""
    named = job.config.checkpoint
    if not named:
        if "start" not in job.inputs:
            raise UserError("continued: nothing to start from; give the recipe start.checkpoint, or pretrain")
        return job.start
    return checkpoint_folder(named, "continued.checkpoint")


def _forgotten(config: ContinuedConfig, first: Row, last: Row) -> float | None:
    """The share by which general bits per byte rose; None where there is no general text.

    Raises:
        UserError: more than the config allows.
    """
    if "bits_per_byte_general" not in first:
        return None
    lost = rise(first["bits_per_byte_general"], last["bits_per_byte_general"])
    if config.max_forgetting and lost > config.max_forgetting:
        raise UserError(
            f"continued: general bits per byte rose by {lost:.1%}, max_forgetting is {config.max_forgetting:.1%}; "
            "give the general sources more weight in continued.mixture, or lower learning_rate"
        )
    events.note(f"general bits per byte {lost:+.2%}")
    return round(lost, 5)
