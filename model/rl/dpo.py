"""The stage `dpo`: direct preference optimization (Rafailov et al., arXiv 2305.18290; DeepSeek-LLM, section 4).

Of two answers to a prompt, the likelihood of the preferred one is raised against that of the other, measured from where
the model began. Where the pairs come from is in `model.rl.pairs`. It runs in the stage's own process.

Artifact: ``model/``, ``history.json`` and ``pairs.jsonl`` (what was preferred to what), with low-rank adapters
``adapter/`` in peft's format, which ``model/`` has merged.

Shapes: P pairs of a micro-batch, N tokens of their answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from infra.durable import write_durably
from model.architecture.transformer import Transformer
from model.facts.training import DpoMetrics, before_and_after, forgetting
from model.finetune_sections import DpoConfig
from model.generation.generate import Sampling
from model.generation.solve import note_what_is_cut, solve
from model.rl.batches import Answer, MicroBatch, micro_batch
from model.rl.pairs import Pair, encode_pairs, find_pairs
from model.sections import BadStep
from model.training.engine import SingleEngine, end_step
from model.training.epochs import places_of_step
from model.training.finish import write_artifact
from model.training.guard import BadSteps, poisoned
from model.training.journal import Row
from model.training.lineage import lineage, weight_files
from model.training.lora import adapt, adapter_files, without_moving_bias
from model.training.ranks import RankJob, run_alone, user_errors
from model.training.replay import Replay
from model.training.replay_sources import ReplaySources, Retention
from model.training.schedule import learning_rate
from model.training.trainer import RunLength, StepRecord, StepResult, Task, Trainer
from pipeline.reasoning.problems import Problem, read_tasks

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["answer_log_probabilities", "dpo", "dpo_loss"]


def dpo_loss(policy_P2: Tensor, reference_P2: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Losses [P] of pairs (Eq 7), and the margins [P] by which the chosen answer is preferred.

    Args:
        policy_P2: log probabilities of the whole answers, chosen and rejected, under the policy.
        reference_P2: the same under the reference.
        beta: how dearly distance is paid for.
    """
    gained_P2 = beta * (policy_P2 - reference_P2)
    margins_P = gained_P2[:, 0] - gained_P2[:, 1]
    return -F.logsigmoid(margins_P), margins_P.detach()


def dpo(config: DpoConfig, inputs: Mapping[str, Path], out_dir: Path) -> DpoMetrics:
    """Teach the model of `start` its preferences.

    Raises:
        UserError: no pairs, inputs that do not fit together.
        SystemExit: 143, saved after SIGTERM.
    """
    return run_alone("model.rl.dpo:run_rank", DpoMetrics, config, inputs, out_dir)


def run_rank(job: RankJob[DpoConfig]) -> DpoMetrics:
    """All of the stage."""
    config = job.config
    model = job.starting_model()
    adapters = adapt(model, config.lora, config.seed) if config.lora is not None else None
    if adapters is not None:
        config = without_moving_bias(config)
    held_out = read_tasks(job.inputs["reasoning"] / "validation.jsonl")[: config.accuracy_tasks]
    note_what_is_cut(job.tokenizer, held_out, "dpo.max_new_tokens", config.max_new_tokens)
    identity = _identity(job)
    kept = _pairs(job, model, identity)
    pairs = encode_pairs(kept, job.tokenizer)
    engine = SingleEngine(model, config)
    with user_errors("dpo"):
        sources = ReplaySources(config.replay, job.inputs, job.tokenizer, at_once=config.micro_tokens, seed=config.seed)
    task = Preferences(engine, pairs, config, job.tokenizer, held_out, sources.replay, sources.retention)
    trainer = Trainer(task, engine, RunLength(config.steps), job.snapshots, identity + sources.replay.identity)
    trainer.run()
    steps, evaluations = trainer.history.steps, trainer.history.evaluations
    write_artifact(job, engine.model.cpu().eval(), steps, evaluations, begun=job.start, adapters=adapters)
    (job.out_dir / "pairs.jsonl").write_bytes(kept.read_bytes())
    return DpoMetrics(
        pairs=len(pairs),
        steps=config.steps,
        train_loss_first=steps[0]["loss"],
        train_loss_last=fmean(row["loss"] for row in steps[-10:]),
        preferred_last=fmean(row["preferred"] for row in steps[-10:]),
        **(adapters.shares() if adapters is not None else {}),
        **before_and_after(evaluations[0], evaluations[-1]),
        **forgetting(evaluations),
    )


def _identity(job: RankJob[DpoConfig]) -> str:
    read = (*weight_files(job.start), job.inputs["tokenizer"] / "tokenizer.json")
    named = (*map(Path, job.config.files), *adapter_files(job.config.lora))
    files = (*read, job.inputs["reasoning"] / "train.jsonl", *named)
    return lineage(job.config, *(file for file in files if file.is_file()))


def _pairs(job: RankJob[DpoConfig], model: Transformer, identity: str) -> Path:
    """The file of the pairs, which a run that resumes finds there."""
    path, done = (job.snapshots.parent / name for name in ("pairs.jsonl", "pairs.done"))
    if not done.exists() or done.read_text() != identity:
        rows = find_pairs(job.config, job.inputs["reasoning"], model, job.tokenizer)
        lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
        write_durably(path, "".join(lines).encode(errors="replace"))  # JSON can hold half a character
        write_durably(done, identity.encode())
    return path


class Preferences(Task):
    """Updates on batches of pairs; held-out questions are answered before and after."""

    phase = "train"

    def __init__(
        self,
        engine: SingleEngine,
        pairs: list[Pair],
        config: DpoConfig,
        tokenizer: Tokenizer,
        held_out: Sequence[Problem],
        replay: Replay,
        retention: Retention,
    ) -> None:
        self.engine, self.pairs, self.config = engine, pairs, config
        self.tokenizer, self.held_out = tokenizer, held_out
        self.replay, self.retention = replay, retention
        self.reference = _reference(engine.model, pairs, config, engine.device)
        self.bad = BadSteps(BadStep.STOP, "lower dpo.learning_rate", stage="dpo")

    def step(self, step: int) -> StepResult:
        """One update."""
        config, engine = self.config, self.engine
        size = min(config.batch_size, len(self.pairs))
        chosen = places_of_step(step, size, len(self.pairs), config.seed)
        sums = torch.zeros(3, dtype=torch.float64, device=engine.device)
        parts = _cut(chosen, self.pairs, config.micro_tokens)
        replayed = self.replay.learn(engine, step, lambda part: engine.losses(part)[0])
        for number, part in enumerate(parts):
            engine.watch.begin(2 * len(part))
            batch = _batch([self.pairs[place] for place in part], engine.device)
            policy_P2 = answer_log_probabilities(batch, engine.model, [self.pairs[place] for place in part])
            reference_P2 = self.reference[part].to(engine.device)
            losses_P, margins_P = dpo_loss(policy_P2, reference_P2, config.beta)
            share = losses_P.sum() / size
            preferred, margin = ((margins_P > 0).sum().double() / size, margins_P.sum().double() / size)
            sums += torch.stack((share.detach().double(), preferred, margin))
            share = share + engine.watch.take_loss() / len(parts)
            is_last = number + 1 == len(parts)
            is_good = sums[0].isfinite()
            engine.backward(poisoned(share, is_good) if is_last else share, last=is_last)
        norm, _, _ = end_step(engine, learning_rate(config, step), config.bias_update_speed, is_good)
        loss, preferred, margin = sums.unbind()
        return StepResult({"loss": loss, "preferred": preferred, "margin": margin, "grad_norm": norm, **replayed})

    def record(self, record: StepRecord) -> Row:
        """Loss, share and margin of the preferred answers, learning rate and gradient norm."""
        if not math.isfinite(record.numbers["grad_norm"]):
            self.bad.add(record.step, f"loss {record.numbers['loss']:.4g}")
        rate = learning_rate(self.config, record.step)
        return {"step": float(record.step + 1), **record.numbers, "learning_rate": rate}

    def evaluate(self, done: int) -> Row:
        """Share of the held-out questions that are answered right, and what else was kept."""
        sampling = Sampling(self.config.max_new_tokens)
        solutions = solve(self.engine.model, self.tokenizer, self.held_out, sampling)
        return {"accuracy": fmean(solution.score for solution in solutions), **self.retention(self.engine, done)}


def _cut(chosen: Sequence[int], pairs: Sequence[Pair], max_tokens: int) -> list[list[int]]:
    """Numbers of the pairs of each micro-batch, like lengths together."""
    parts: list[list[int]] = []
    for place in sorted(chosen, key=lambda place: (-len(pairs[place]), place)):
        if parts and (len(parts[-1]) + 1) * len(pairs[parts[-1][0]]) <= max_tokens:
            parts[-1].append(place)
        else:
            parts.append([place])
    return parts


def _batch(pairs: Sequence[Pair], device: torch.device) -> MicroBatch:
    rows = [
        [Answer(pair.prompt, tokens, [0.0] * len(tokens), 0.0)]
        for pair in pairs
        for tokens in (pair.chosen, pair.rejected)
    ]
    return micro_batch(rows, lambda length: 0.0, device)  # whole answers are compared: no token has a weight


def answer_log_probabilities(batch: MicroBatch, model: Transformer, pairs: Sequence[Pair]) -> Tensor:
    """Log probabilities [P, 2] of the whole answers."""
    logprobs_N, _ = batch.log_probabilities(model)
    lengths = torch.tensor([len(tokens) for pair in pairs for tokens in (pair.chosen, pair.rejected)])
    rows_N = torch.repeat_interleave(torch.arange(len(lengths)), lengths).to(logprobs_N.device)
    return torch.zeros(len(lengths), device=logprobs_N.device).index_add(0, rows_N, logprobs_N).view(-1, 2)


@torch.no_grad()
def _reference(model: Transformer, pairs: Sequence[Pair], config: DpoConfig, device: torch.device) -> Tensor:
    """Log probabilities [P, 2] under the model as it began: computed once, so that no second model is held."""
    found = torch.zeros(len(pairs), 2)
    for part in _cut(range(len(pairs)), pairs, config.micro_tokens):
        chosen = [pairs[place] for place in part]
        found[part] = answer_log_probabilities(_batch(chosen, device), model, chosen).cpu()
    return found
