"""The stage `dpo`: direct preference optimization (Rafailov et al., arXiv 2305.18290; DeepSeek-LLM, section 4).

Of two answers to a prompt, the likelihood of the preferred one is raised against that of the other, measured from where
the model began. Pairs come from files, or are the model's own answers to the training tasks, a right and well-formed
one against a wrong one. It runs in the stage's own process.

Artifact: ``model/``, ``history.json`` and ``pairs.jsonl`` (what was preferred to what).

Shapes: P pairs of a micro-batch, N tokens of their answers.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from infra import events
from infra.errors import UserError
from infra.execution import execution
from infra.hashing import file_digest
from model.architecture.checkpoint import load_model, save_model, write_json
from model.architecture.transformer import Transformer
from model.finetune_sections import DpoConfig
from model.generation.generate import Sampling
from model.generation.solve import solve
from model.rl.batches import Answer, MicroBatch, micro_batch
from model.rl.rollout import questions_of_step
from model.training.engine import SingleEngine, threads_for
from model.training.loop import sigterm_event
from model.training.schedule import learning_rate
from model.training.snapshots import Snapshots
from pipeline.reasoning.problem_files import read_records
from pipeline.reasoning.stage import read_tasks
from pipeline.tokens.chat import chat_format

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Pair", "dpo", "dpo_loss"]


@dataclass(frozen=True)
class Pair:
    """A prompt with the better and the worse of two answers, in tokens."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    def __len__(self) -> int:
        return 2 * (len(self.prompt) + max(len(self.chosen), len(self.rejected)))


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


def dpo(config: DpoConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Teach the model of `start` its preferences.

    Raises:
        UserError: no pairs, inputs that do not fit together.
        SystemExit: 143, saved after SIGTERM.
    """
    from tokenizers import Tokenizer

    torch.set_num_threads(threads_for(1))
    tokenizer = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))
    model = load_model(inputs["start"] / "model")
    held_out = read_tasks(inputs["reasoning"] / "validation.jsonl")[: config.accuracy_tasks]
    work = out_dir / ".work"
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "pairs.jsonl"
    identity = _identity(config, inputs)
    if not (work / "pairs.done").exists() or (work / "pairs.done").read_text() != identity:
        _write_pairs(config, inputs, model, tokenizer, kept)
        (work / "pairs.done").write_text(identity)
    pairs = [_encode(json.loads(line), tokenizer) for line in kept.read_text(encoding="utf-8").splitlines()]
    engine = SingleEngine(model, config)
    run = _Run(engine, pairs, config)
    snapshots = Snapshots(work / "snapshots", engine, identity)
    restored = snapshots.restore()
    first = 0
    sampling = Sampling(config.max_new_tokens)
    if restored is None:
        run.accuracy.append(_accuracy(model, tokenizer, held_out, sampling))
    else:
        first, state = restored
        run.history, run.accuracy = state["history"], state["accuracy"]
    events.begin("steps", config.steps, "steps", done=first)
    saved = time.monotonic()
    with sigterm_event() as terminated:
        for step in range(first, config.steps):
            run.step(step)
            is_due = time.monotonic() - saved >= execution().checkpoints.seconds and step + 1 < config.steps
            if is_due or terminated.is_set():
                snapshots.save(step + 1, {"history": run.history, "accuracy": run.accuracy})
                saved = time.monotonic()
            if terminated.is_set():
                raise SystemExit(128 + signal.SIGTERM)
    events.flush()
    run.accuracy.append(_accuracy(model, tokenizer, held_out, sampling))
    save_model(engine.model.cpu().eval(), out_dir / "model", inputs["tokenizer"])
    write_json(out_dir / "history.json", {"steps": run.history, "validation": []})
    (out_dir / "pairs.jsonl").write_bytes(kept.read_bytes())
    return {
        "pairs": len(pairs),
        "steps": config.steps,
        "train_loss_first": run.history[0]["loss"],
        "train_loss_last": fmean(row["loss"] for row in run.history[-10:]),
        "preferred_last": fmean(row["preferred"] for row in run.history[-10:]),
        "accuracy_before": run.accuracy[0],
        "accuracy_after": run.accuracy[1],
    }


def _identity(config: DpoConfig, inputs: Mapping[str, Path]) -> str:
    files = [inputs["start"] / "model" / "model.safetensors", inputs["tokenizer"] / "tokenizer.json"]
    files += [inputs["reasoning"] / "train.jsonl", *map(Path, config.files)]
    contents = "".join(file_digest(file) for file in files if file.is_file())
    return hashlib.sha256((config.model_dump_json() + contents).encode()).hexdigest()


def _accuracy(model: Transformer, tokenizer: Tokenizer, rows: Sequence[Mapping[str, Any]], sampling: Sampling) -> float:
    return fmean(solution.score for solution in solve(model, tokenizer, rows, sampling))


def _write_pairs(
    config: DpoConfig, inputs: Mapping[str, Path], model: Transformer, tokenizer: Tokenizer, path: Path
) -> None:
    rows = _file_pairs(config) if config.files else _sampled_pairs(config, inputs, model, tokenizer)
    if not rows:
        raise UserError(
            "dpo: no question got both a right and a wrong answer: there is nothing to prefer; ask more questions, "
            "or give pairs in dpo.files"
        )
    lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def _file_pairs(config: DpoConfig) -> list[dict[str, str]]:
    rows = []
    for name, number, given in read_records(config.files):
        texts = {key: given.get(key) for key in ("prompt", "chosen", "rejected")} if isinstance(given, Mapping) else {}
        if not texts or not all(isinstance(text, str) and text for text in texts.values()):
            raise UserError(f"{name}: record {number}: not an object with the texts prompt, chosen and rejected")
        rows.append({key: str(text) for key, text in texts.items()})
    return rows


def _sampled_pairs(
    config: DpoConfig, inputs: Mapping[str, Path], model: Transformer, tokenizer: Tokenizer
) -> list[dict[str, str]]:
    """The first right and the first wrong of the model's own answers to each question that has both."""
    tasks = read_tasks(inputs["reasoning"] / "train.jsonl")
    asked = [
        tasks[number] for number in questions_of_step(0, min(config.questions, len(tasks)), len(tasks), config.seed)
    ]
    rows = []
    events.begin("pairs", len(asked), "questions")
    for start in range(0, len(asked), 32):
        chunk = asked[start : start + 32]
        repeated = [task for task in chunk for _ in range(config.samples)]
        numbers = range(start * config.samples, start * config.samples + len(repeated))
        sampling = Sampling(config.max_new_tokens, temperature=1.0, seed=config.seed)
        solutions = solve(model, tokenizer, repeated, sampling, batch_size=256, numbers=numbers)
        for place, task in enumerate(chunk):
            mine = solutions[place * config.samples : (place + 1) * config.samples]
            good = [s for s in mine if s.score == 1 and s.is_well_formed]
            bad = [s for s in mine if s.score < 1]
            if good and bad:
                texts = (tokenizer.decode(s.completion.tokens, skip_special_tokens=True) for s in (good[0], bad[0]))
                rows.append(dict(zip(("prompt", "chosen", "rejected"), (task["question"], *texts), strict=True)))
        events.advance(len(chunk))
    events.flush()
    return rows


def _encode(row: Mapping[str, str], tokenizer: Tokenizer) -> Pair:
    chat = chat_format(tokenizer)
    return Pair(
        chat.question(row["prompt"]),
        [*chat.written(row["chosen"]), chat.eos],
        [*chat.written(row["rejected"]), chat.eos],
    )


class _Run:
    """The state of one run of the stage."""

    def __init__(self, engine: SingleEngine, pairs: list[Pair], config: DpoConfig) -> None:
        self.engine, self.pairs, self.config = engine, pairs, config
        self.history: list[dict[str, float]] = []
        self.accuracy: list[float] = []
        self.reference = _reference(engine.model, pairs, config, engine.device)

    def step(self, step: int) -> None:
        """One update."""
        config, engine = self.config, self.engine
        size = min(config.batch_size, len(self.pairs))
        chosen = questions_of_step(step, size, len(self.pairs), config.seed)
        rate = learning_rate(config, step)
        loss, preferred, margin = 0.0, 0.0, 0.0
        parts = _cut(chosen, self.pairs, config.micro_tokens)
        for number, part in enumerate(parts):
            engine.watch.begin(2 * len(part))
            batch = _batch([self.pairs[place] for place in part], engine.device)
            policy_P2 = answer_log_probabilities(batch, engine.model, [self.pairs[place] for place in part])
            reference_P2 = self.reference[part].to(engine.device)
            losses_P, margins_P = dpo_loss(policy_P2, reference_P2, config.beta)
            share = losses_P.sum() / size
            loss += float(share.detach())
            preferred += float((margins_P > 0).sum()) / size
            margin += float(margins_P.sum()) / size
            if not math.isfinite(loss):
                raise UserError(f"dpo: step {step + 1}: the loss is not a number; lower dpo.learning_rate")
            engine.backward(share + engine.watch.take_loss() / len(parts), last=number + 1 == len(parts))
        norm = engine.step(rate)
        engine.watch.finish_step(engine.watch.counts(), config.bias_update_speed)
        row = {"loss": loss, "preferred": preferred, "margin": margin, "learning_rate": rate, "grad_norm": norm}
        self.history.append({"step": float(step + 1)} | row)
        events.metrics(row, step + 1)
        events.advance()


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
    return micro_batch(rows, len(rows), device)


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
