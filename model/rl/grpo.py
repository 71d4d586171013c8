"""The stage `grpo`: a fine-tuned model gets better at what a program can check (DeepSeekMath, section 4; DeepSeek-R1).

Each step asks questions of the training split, several answers to each, rewards them by rule, and moves the policy
towards the better ones of every group. It runs in the stage's own process on all its cores, or its GPU, however many
ranks other stages have.

Artifact: ``model/`` (a Hugging Face checkpoint with the tokenizer), ``history.json`` (every step and validation) and
``rollouts.jsonl`` (some answers of every step, with what they earned).
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from infra import events
from infra.errors import UserError
from model.sections import GrpoConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.rl.policy import PolicyEngine
    from model.rl.rollout import Rollout

__all__ = ["collapsed", "grpo"]

WINDOW = 10
"""Steps whose mean reward tells a collapse."""
MAX_SKIPPED = 10
"""Updates thrown away in a row after which going on is no use."""


def grpo(config: GrpoConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Reinforce the model of `sft` on the training split of `reasoning`; its validation split is the measure.

    Raises:
        UserError: inputs that do not fit together, a policy that collapsed.
        SystemExit: 143, saved after SIGTERM.
    """
    import torch
    from tokenizers import Tokenizer

    from model.checkpoint import load_model, save_model, write_json
    from model.rl.policy import PolicyEngine
    from model.training.engine import threads_for
    from model.training.loop import sigterm_event
    from model.training.snapshots import Snapshots
    from pipeline.reasoning import read_tasks

    torch.set_num_threads(threads_for(1))
    tokenizer = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))
    model = load_model(inputs["start"] / "model")
    if tokenizer.get_vocab_size() > model.config.vocab_size:
        raise UserError(f"{inputs['start']}: its vocabulary is smaller than the tokenizer's; fine-tune again")
    splits = [inputs["reasoning"] / f"{split}.jsonl" for split in ("train", "validation")]
    engine = PolicyEngine(model, config)
    run = _Run(engine, tokenizer, config, read_tasks(splits[0]), read_tasks(splits[1]), out_dir / ".work")
    files = [inputs["start"] / "model" / "model.safetensors", inputs["tokenizer"] / "tokenizer.json", *splits]
    snapshots = Snapshots(out_dir / ".work" / "snapshots", engine, _fingerprint(config, files))
    restored = snapshots.restore()
    first = run.restore(*restored) if restored is not None else 0
    events.begin("steps", config.steps, "steps", done=first)
    started = saved = time.monotonic()
    with sigterm_event() as terminated:
        run.begin()
        for step in range(first, config.steps):
            run.step(step)
            done = step + 1
            is_due = time.monotonic() - saved >= config.checkpoint_seconds and done < config.steps
            if is_due or terminated.is_set():
                snapshots.save(done, run.state())
                saved = time.monotonic()
            if terminated.is_set():
                events.note(f"stopped by SIGTERM after step {done}; the next run goes on from there")
                raise SystemExit(128 + signal.SIGTERM)
    events.flush()
    save_model(engine.model.cpu().eval(), out_dir / "model", inputs["tokenizer"])
    write_json(out_dir / "history.json", {"steps": run.history, "validation": run.validated})
    (out_dir / "rollouts.jsonl").write_bytes(run.kept.read_bytes())
    return run.metrics() | {"seconds": round(time.monotonic() - started, 2)}


def collapsed(rewards: Sequence[float], share: float) -> bool:
    """Whether the mean of the last `WINDOW` rewards is below `share` of the best such mean."""
    means = [fmean(rewards[end - WINDOW : end]) for end in range(WINDOW, len(rewards) + 1)]
    return bool(means) and means[-1] < share * max(means)


def _fingerprint(config: GrpoConfig, files: Sequence[Path]) -> str:
    digest = hashlib.sha256(config.model_dump_json().encode())
    for path in files:
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


class _Run:
    """The state of one run of the stage."""

    def __init__(
        self,
        engine: PolicyEngine,
        tokenizer: Tokenizer,
        config: GrpoConfig,
        tasks: list[dict[str, Any]],
        held_out: list[dict[str, Any]],
        work: Path,
    ) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.engine, self.tokenizer, self.config = engine, tokenizer, config
        self.tasks, self.held_out = tasks, held_out[: config.accuracy_tasks]
        self.kept = work / "rollouts.jsonl"
        self.kept.touch()
        self.kept_bytes = 0
        self.history: list[dict[str, float]] = []
        self.validated: list[dict[str, float]] = []
        self.skipped: list[int] = []

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps beside the engine."""
        return {
            "history": self.history,
            "validated": self.validated,
            "skipped": self.skipped,
            "kept_bytes": self.kept_bytes,
        }

    def restore(self, done: int, state: Mapping[str, Any]) -> int:
        """Take up the state of a snapshot; returns the finished steps."""
        self.history, self.validated = state["history"], state["validated"]
        self.skipped, self.kept_bytes = state["skipped"], state["kept_bytes"]
        return done

    def begin(self) -> None:
        """Before the first step of this process: drop the answers kept after the snapshot, and validate if fresh."""
        with self.kept.open("r+b") as handle:
            handle.truncate(self.kept_bytes)
        if not self.validated:
            self.validate(0)

    def step(self, step: int) -> None:
        """One rollout and its updates."""
        from model.rl.rollout import roll_out
        from model.training.schedule import learning_rate

        config = self.config
        started = time.monotonic()
        if config.reference_every and step and step % config.reference_every == 0:
            self.engine.renew_reference()
        rollout = roll_out(self.engine.model, self.tokenizer, self.tasks, config, step)
        wrote = time.monotonic() - started
        rate = learning_rate(config, step)
        row = {"step": float(step + 1), "learning_rate": rate, **_summary(rollout), **self.update(rollout, step, rate)}
        self.history.append(row)
        self.keep(rollout, step)
        tokens = sum(len(answer.tokens) for answer in rollout.answers)
        seconds = time.monotonic() - started
        events.metrics({name: value for name, value in row.items() if name != "step"}, step + 1)
        events.metrics({"sampled_tokens_per_second": tokens / wrote, "seconds_per_step": seconds}, step + 1)
        events.advance()
        done = step + 1
        if done == config.steps or (config.validate_every and done % config.validate_every == 0):
            self.validate(done)
        self.guard(done)

    def update(self, rollout: Rollout, step: int, rate: float) -> dict[str, float]:
        """The updates of one step, each on a share of the questions; what they had to say, in the mean."""
        config, engine = self.config, self.engine
        per_update = -(-config.questions // config.minibatches) * config.group_size
        rows = []
        for start in range(0, len(rollout.answers), per_update):
            row = engine.update(rollout.answers[start : start + per_update], rate)
            if row is None:
                self.skipped.append(step + 1)
                events.note(f"step {step + 1}: the loss is not a number, skipped")
            else:
                rows.append(row)
        recent = list(dict.fromkeys(self.skipped))[-MAX_SKIPPED:]
        if recent == list(range(step + 2 - MAX_SKIPPED, step + 2)):
            raise UserError(f"grpo: {MAX_SKIPPED} steps in a row without a usable loss; lower grpo.learning_rate")
        return {name: fmean(row[name] for row in rows) for name in rows[0]} if rows else {}

    def keep(self, rollout: Rollout, step: int) -> None:
        """Append some answers to one question, so that a person can see what a step was about."""
        lines = []
        for number in range(min(self.config.kept_answers, self.config.group_size)):
            task, solution = rollout.rows[number], rollout.solutions[number]
            mark = rollout.rewards[number]
            kept = {
                "step": step + 1,
                "id": task["id"],
                "question": task["question"],
                "reasoning": solution.reasoning,
                "answer": solution.answer,
                "expected": task["answer"],
                "accuracy": mark.accuracy,
                "format": mark.format,
                "reward": mark.total,
                "advantage": round(rollout.answers[number].advantage, 4),
                "tokens": len(solution.completion.tokens),
            }
            lines.append(json.dumps(kept, ensure_ascii=False, sort_keys=True) + "\n")
        text = "".join(lines).encode()
        with self.kept.open("ab") as handle:
            handle.write(text)
        self.kept_bytes += len(text)

    def validate(self, done: int) -> None:
        """Ask the held-out questions, greedily, after `done` steps."""
        from model.generate import Sampling
        from model.rl.rewards import reward
        from model.solve import solve

        sampling = Sampling(self.config.max_new_tokens)
        solutions = solve(self.engine.model, self.tokenizer, self.held_out, sampling)
        marks = [reward(solution, self.config) for solution in solutions]
        row = {
            "step": float(done),
            "reward": fmean(mark.total for mark in marks),
            "accuracy": fmean(mark.accuracy for mark in marks),
            "format": fmean(mark.format for mark in marks),
            "length": fmean(len(solution.completion.tokens) for solution in solutions),
        }
        self.validated.append(row)
        events.metrics({f"validation_{name}": value for name, value in row.items() if name != "step"}, done)

    def guard(self, done: int) -> None:
        """End a run whose policy has fallen apart; say so when there is nothing left to learn from."""
        rewards = [row["reward"] for row in self.history]
        if collapsed(rewards, self.config.collapse_below):
            raise UserError(
                f"grpo: the policy has collapsed: mean reward {fmean(rewards[-WINDOW:]):.3f} over the {WINDOW} steps "
                f"up to {done}; lower grpo.learning_rate, raise grpo.kl_weight, or end before with grpo.steps"
            )
        recent = [row["informative"] for row in self.history[-WINDOW:]]
        if len(self.history) == WINDOW and not any(recent):
            events.note(
                f"no group of {WINDOW} steps had answers of different rewards: there is nothing to learn from; "
                "choose tasks that the fine-tuned model solves sometimes"
            )

    def metrics(self) -> dict[str, Any]:
        """The numbers that the stage reports."""
        last = self.history[-WINDOW:]
        found: dict[str, Any] = {
            "steps": len(self.history),
            "answers": len(self.history) * self.config.questions * self.config.group_size,
            "epochs": round(len(self.history) * self.config.questions / len(self.tasks), 3),
            "skipped_steps": len(set(self.skipped)),
            "reward_first": self.history[0]["reward"],
            "reward_last": fmean(row["reward"] for row in last),
        }
        for name in ("kl", "entropy", "informative"):
            found[f"{name}_last"] = fmean(row.get(name, math.nan) for row in last)
        for place, row in (("before", self.validated[0]), ("after", self.validated[-1])):
            found |= {f"{name}_{place}": value for name, value in row.items() if name != "step"}
        return {name: value for name, value in found.items() if math.isfinite(value)}


def _summary(rollout: Rollout) -> dict[str, float]:
    """What a step's answers are like."""
    rewards = [mark.total for mark in rollout.rewards]
    mean = fmean(rewards)
    return {
        "reward": mean,
        "reward_spread": math.sqrt(fmean((value - mean) ** 2 for value in rewards)),
        "accuracy": fmean(mark.accuracy for mark in rollout.rewards),
        "format": fmean(mark.format for mark in rollout.rewards),
        "length": fmean(len(answer.tokens) for answer in rollout.answers),
        "finished": fmean(solution.completion.finished for solution in rollout.solutions),
        "informative": rollout.informative,
    }
