"""The stage `grpo`: a model gets better at what a program can check (DeepSeekMath, section 4; DeepSeek-R1).

Each step asks questions of the training split, several answers to each, rewards them by rule, and moves the policy
towards the better ones of every group (`model.rl.reinforcement`). From a fine-tuned model it is R1's reasoning
reinforcement, from a base model R1-Zero. Ranks share the questions and the updates; experts may be spread over them.

Artifact: ``model/`` (a Hugging Face checkpoint with the tokenizer), ``history.json`` (every step and validation) and
``rollouts.jsonl`` (some answers of every step, with what they earned), with low-rank adapters ``adapter/`` in peft's
format, which ``model/`` has merged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from infra.errors import UserError
from model.facts.training import GrpoMetrics, before_and_after, forgetting
from model.finetune_sections import GrpoConfig
from model.training.ranks import RankJob, run_ranks, user_errors

if TYPE_CHECKING:
    from model.architecture.transformer import Transformer
    from model.rl.policy import Policy
    from model.rl.reinforcement import Reinforcement
    from model.training.journal import History
    from model.training.lora import Adapters
    from model.training.replay import Replay
    from model.training.trainer import RunFacts
    from pipeline.reasoning.problems import Problem

__all__ = ["grpo", "learn_by"]


def grpo(config: GrpoConfig, inputs: Mapping[str, Path], out_dir: Path) -> GrpoMetrics:
    """Reinforce the model of `start` on the training split of `reasoning`; its validation split is the measure.

    Raises:
        UserError: inputs that do not fit together, a policy that went wrong.
        SystemExit: 143, saved after SIGTERM.
    """
    return run_ranks("model.rl.grpo:run_rank", GrpoMetrics, config, inputs, out_dir)


def run_rank(job: RankJob[GrpoConfig]) -> GrpoMetrics | None:
    """One rank's part; rank 0 writes the artifact."""
    from model.rl.policy import Policy

    return learn_by(lambda model, replay, adapters: Policy(model, job.config, job.world, replay, adapters), job, "grpo")


def learn_by(
    made: Callable[[Transformer, Replay, Adapters | None], Policy],
    job: RankJob[Any],
    stage: str,
    further: Sequence[Path] = (),
) -> GrpoMetrics | None:
    """Train the policy that `made` makes of the model to start from, what is replayed and the model's adapters; rank 0
    writes the artifact.

    Args:
        further: files that determine what is learned besides start, tokenizer and problems.
    """
    from model.generation.solve import note_what_is_cut
    from model.rl.reinforcement import Reinforcement
    from model.rl.watch import PolicyWatch
    from model.training.finish import write_artifact
    from model.training.journal import Journal
    from model.training.lineage import lineage, weight_files
    from model.training.lora import adapt, adapter_files
    from model.training.replay_sources import ReplaySources
    from model.training.trainer import RunLength, Trainer
    from pipeline.reasoning.problems import read_tasks

    config = job.config
    model = job.starting_model()
    adapters = adapt(model, config.lora, config.seed) if config.lora is not None else None
    splits = [job.inputs["reasoning"] / f"{split}.jsonl" for split in ("train", "validation")]
    tasks, held_out = (_chosen(read_tasks(split), config, stage) for split in splits)
    with user_errors(stage):
        sources = ReplaySources(config.replay, job.inputs, job.tokenizer, at_once=config.micro_tokens, seed=config.seed)
        policy = made(model, sources.replay, adapters)
    kept = Journal(job.snapshots / "rollouts.jsonl", writes=job.rank == 0)
    task = Reinforcement(policy, job.tokenizer, config, tasks, held_out, kept, sources.retention, stage)
    if job.rank == 0:
        note_what_is_cut(job.tokenizer, task.held_out, f"{stage}.max_new_tokens", config.max_new_tokens)
    files = (*weight_files(job.start), *further, job.inputs["tokenizer"] / "tokenizer.json", *splits)
    trainer = Trainer(
        task,
        policy,
        RunLength(config.steps, config.validate_every),
        job.snapshots,
        sources.replay.identity + lineage(config, *files, *adapter_files(config.lora)),
        hooks=[PolicyWatch(config, task, tells=stage == "grpo" and job.rank == 0, stage=stage)],
        journals={"rollouts": kept},
    )
    facts = trainer.run()
    finished = policy.full_model()
    if finished is None:
        return None
    steps, evaluations = trainer.history.steps, trainer.history.evaluations
    write_artifact(job, finished.cpu().eval(), steps, evaluations, begun=job.start, adapters=adapters)
    (job.out_dir / "rollouts.jsonl").write_bytes(kept.contents())
    metrics = _metrics(config, task, trainer.history, facts)
    return metrics if adapters is None else metrics.model_copy(update=adapters.shares())


def _chosen(rows: list[Problem], config: GrpoConfig, stage: str) -> list[Problem]:
    """The rows of the kinds of tasks that are asked."""
    found = [row for row in rows if not config.tasks or row["task"] in config.tasks]
    if not found:
        there = sorted({row["task"] for row in rows})
        raise UserError(f"{stage}.tasks: no task is named {' or '.join(config.tasks)}; there are {', '.join(there)}")
    return found


def _metrics(config: GrpoConfig, task: Reinforcement, history: History, facts: RunFacts) -> GrpoMetrics:
    """The numbers that the stage reports."""
    from model.rl.watch import WINDOW

    steps, last = len(history.steps), history.steps[-WINDOW:]

    def mean(name: str) -> float | None:
        value = fmean(row.get(name, math.nan) for row in last)
        return value if math.isfinite(value) else None

    return GrpoMetrics(
        steps=steps,
        answers=steps * config.questions * config.group_size,
        epochs=round(steps * config.questions / len(task.tasks), 3),
        skipped_steps=len(task.bad.steps),
        reward_first=history.steps[0]["reward"],
        reward_last=fmean(row["reward"] for row in last),
        **task.shares(),
        **{f"{name}_last": mean(name) for name in ("kl", "entropy", "informative", "length", "program_share")},
        **before_and_after(history.evaluations[0], history.evaluations[-1]),
        **forgetting(history.evaluations),
        seconds=round(facts.seconds, 2),
        layout=facts.layout,
    )
