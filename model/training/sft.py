"""The stage `sft`: a model learns the chat format and to reason before it answers.

It serves the stages `sft_second` and `distill` too, which learn from the answers of a stronger model.

Artifact: ``model/`` (a Hugging Face checkpoint with the tokenizer), ``history.json`` (loss, learning rate, gradient
norm and expert load of every step, and the validations) and, with expert-selective fine-tuning, ``experts.json`` (how
much the tasks use each expert, and which were trained), with low-rank adapters ``adapter/`` in peft's format, which
``model/`` has merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from infra import events
from model.facts.training import SftMetrics, forgetting
from model.finetune_sections import SftConfig, Trained
from model.training.ranks import RankJob, run_ranks, user_errors

if TYPE_CHECKING:
    from model.architecture.transformer import Transformer
    from model.training.replay_sources import ReplaySources
    from pipeline.reasoning.problems import Problem

__all__ = ["sft"]


def sft(config: SftConfig, inputs: Mapping[str, Path], out_dir: Path) -> SftMetrics:
    """Fine-tune the model of `start` on the training split of `reasoning`; its validation split is the measure.

    Raises:
        UserError: inputs that do not fit together, tasks that do not fit a sequence, training that went wrong.
    """
    return run_ranks("model.training.sft:run_rank", SftMetrics, config, inputs, out_dir)


def run_rank(job: RankJob[SftConfig]) -> SftMetrics | None:
    """One rank's part; rank 0 writes the artifact."""
    from infra.hashing import file_digest
    from model.architecture.checkpoint import write_json
    from model.training.chats import ChatBatches, encode_chats, with_follow_ups
    from model.training.esft import frozen_gates, select_experts
    from model.training.finish import write_artifact
    from model.training.lineage import weight_files
    from model.training.lora import adapt, adapter_files, without_moving_bias
    from model.training.next_token import Validation, train
    from pipeline.reasoning.problems import read_tasks
    from pipeline.tokens.chat import chat_format

    config, reasoning = job.config, job.inputs["reasoning"]
    in_full = config.trained is not Trained.EXPERTS and config.lora is None
    model = job.starting_model(prediction=in_full)
    held_out = read_tasks(reasoning / "validation.jsonl")
    pad = chat_format(job.tokenizer).pad
    with user_errors("sft"):
        tasks, length = read_tasks(reasoning / "train.jsonl"), config.sequence_length
        chats = with_follow_ups(job.tokenizer, tasks, config.follow_ups, length, config.seed)
        training = ChatBatches(chats, length, config.batch_size, pad, config.seed)
        validating = ChatBatches(encode_chats(job.tokenizer, held_out), length, config.batch_size, pad, None)
        experts = select_experts(model, training, config, pad) if config.trained is Trained.EXPERTS else None
        adapters = adapt(model, config.lora, config.seed) if config.lora is not None else None
        trained = config if experts is None else frozen_gates(config)
        sources = _replay_sources(job)
        batches = min(-(-config.validation_sequences // config.batch_size), validating.batches)
        result = train(
            model.train(),
            training,
            trained if adapters is None else without_moving_bias(trained),
            job.snapshots,
            validation=Validation(validating, batches),
            evaluate=sources.retention,
            replay=sources.replay,
            identity=training.identity
            + "".join(map(file_digest, (*weight_files(job.start), *adapter_files(config.lora)))),
        )
    if result.model is None:
        return None
    write_artifact(job, result.model, result.history, result.validation, begun=job.start, adapters=adapters)
    if experts is not None:
        write_json(job.out_dir / "experts.json", experts.report())
    return SftMetrics(
        rows=training.rows,
        epochs=round(config.steps * config.batch_size / training.rows, 3),
        tasks_too_long=training.left_out,
        answers_too_long=sources.answers_too_long,
        accuracy=_accuracy(job, result.model, held_out[: config.accuracy_tasks]) if config.accuracy_tasks else None,
        **(part.shares() if (part := experts or adapters) is not None else {}),
        **forgetting(result.validation),
        **dict(result.metrics()),
    )


def _replay_sources(job: RankJob[SftConfig]) -> ReplaySources:
    """What is learned besides, and what shows how much of it is forgotten."""
    from model.training.replay_sources import ReplaySources

    config, length = job.config, job.config.sequence_length
    return ReplaySources(
        config.replay,
        job.inputs,
        job.tokenizer,
        at_once=(config.micro_batch or config.batch_size) // job.world * length,
        seed=config.seed,
        tokens=config.batch_size * length,
        length=length,
    )


def _accuracy(job: RankJob[SftConfig], model: Transformer, asked: Sequence[Problem]) -> float:
    """Share of held-out tasks that the finished model solves."""
    import torch

    from model.architecture.devices import own_device
    from model.generation.generate import Sampling
    from model.generation.solve import note_what_is_cut, solve
    from model.training.engine import threads_for

    torch.set_num_threads(threads_for(1))  # the other ranks are done
    note_what_is_cut(job.tokenizer, asked, "sft.max_new_tokens", job.config.max_new_tokens)
    events.begin("held-out tasks", 0, f"{len(asked)} tasks")
    sampling = Sampling(max_new_tokens=job.config.max_new_tokens)
    solutions = solve(model.to(own_device()).eval(), job.tokenizer, asked, sampling)
    return fmean(solution.score for solution in solutions)
