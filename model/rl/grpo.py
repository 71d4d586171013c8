"""The stage `grpo`: a model gets better at what a program can check (DeepSeekMath, section 4; DeepSeek-R1).

Each step asks questions of the training split, several answers to each, rewards them by rule, and moves the policy
towards the better ones of every group. From a fine-tuned model it is R1's reasoning reinforcement, from a base model
R1-Zero. Ranks share the questions and the updates; experts may be spread over them.

Artifact: ``model/`` (a Hugging Face checkpoint with the tokenizer), ``history.json`` (every step and validation) and
``rollouts.jsonl`` (some answers of every step, with what they earned).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from infra import events
from infra.errors import UserError
from infra.execution import execution
from model.finetune_sections import GrpoConfig
from model.rl.watch import WINDOW, reason_to_stop
from model.training.ranks import run_ranks

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.rl.policy import Policy
    from model.rl.rollout import Rollout
    from model.training.engine import Engine

__all__ = ["grpo"]

MAX_SKIPPED = 10
"""Updates thrown away in a row after which going on is no use."""


def grpo(config: GrpoConfig, inputs: Mapping[str, Path], out_dir: Path) -> dict[str, Any]:
    """Reinforce the model of `start` on the training split of `reasoning`; its validation split is the measure.

    Raises:
        UserError: inputs that do not fit together, a policy that went wrong.
        SystemExit: 143, saved after SIGTERM.
    """
    return run_ranks("model.rl.grpo:run_rank", config, inputs, out_dir)


def run_rank(argument: dict[str, Any]) -> None:
    """One rank's part; rank 0 writes the artifact. Its metrics go through a file in ``.work``."""
    import torch
    from tokenizers import Tokenizer

    from model.architecture.checkpoint import load_model, save_model, write_json
    from model.rl.policy import Policy
    from model.training.engine import threads_for
    from model.training.loop import sigterm_event
    from model.training.snapshots import Snapshots
    from pipeline.reasoning.stage import read_tasks

    config = GrpoConfig.model_validate(argument["config"])
    inputs = {name: Path(path) for name, path in argument["inputs"].items()}
    out_dir = Path(argument["out_dir"])
    world = int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(threads_for(world))
    tokenizer = Tokenizer.from_file(str(inputs["tokenizer"] / "tokenizer.json"))
    model = load_model(inputs["start"] / "model")
    if tokenizer.get_vocab_size() > model.config.vocab_size:
        raise UserError(f"{inputs['start']}: its vocabulary is smaller than the tokenizer's; train it again")
    splits = [inputs["reasoning"] / f"{split}.jsonl" for split in ("train", "validation")]
    tasks, held_out = (_chosen(read_tasks(split), config) for split in splits)
    try:
        policy = Policy(model, config, world)
    except ValueError as error:
        raise UserError(f"grpo: {error}") from error
    run = _Run(policy, tokenizer, config, tasks, held_out, out_dir / ".work")
    files = [inputs["start"] / "model" / "model.safetensors", inputs["tokenizer"] / "tokenizer.json", *splits]
    snapshots = Snapshots(out_dir / ".work" / "snapshots", cast("Engine", policy), _fingerprint(config, files))
    restored = snapshots.restore()
    first = run.restore(*restored) if restored is not None else 0
    if policy.rank == 0:
        events.begin("steps", config.steps, "steps", done=first)
    started = saved = time.monotonic()
    with sigterm_event() as terminated:
        run.begin()
        for step in range(first, config.steps):
            run.step(step)
            done = step + 1
            # one clock and one signal decide for all ranks, so that they save the same step
            is_due = time.monotonic() - saved >= execution().checkpoints.seconds and done < config.steps
            wishes = policy.gather((terminated.is_set(), is_due and policy.rank == 0))
            is_ending = any(ending for ending, _ in wishes)
            if is_ending or any(due for _, due in wishes):
                snapshots.save(done, run.state())
                saved = time.monotonic()
            if is_ending:
                if policy.rank == 0:
                    events.note(f"stopped by SIGTERM after step {done}; the next run goes on from there")
                raise SystemExit(128 + signal.SIGTERM)
    events.flush()
    finished = policy.full_model()
    if finished is None:
        return
    save_model(finished.cpu().eval(), out_dir / "model", inputs["tokenizer"])
    write_json(out_dir / "history.json", {"steps": run.history, "validation": run.validated})
    (out_dir / "rollouts.jsonl").write_bytes(run.kept.read_bytes())
    seconds = {"seconds": round(time.monotonic() - started, 2), "layout": policy.layout}
    write_json(out_dir / ".work" / "metrics.json", run.metrics() | seconds)


def _chosen(rows: list[dict[str, Any]], config: GrpoConfig) -> list[dict[str, Any]]:
    """The rows of the kinds of tasks that are asked."""
    found = [row for row in rows if not config.tasks or row["task"] in config.tasks]
    if not found:
        there = sorted({row["task"] for row in rows})
        raise UserError(f"grpo.tasks: no task is named {' or '.join(config.tasks)}; there are {', '.join(there)}")
    return found


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
        policy: Policy,
        tokenizer: Tokenizer,
        config: GrpoConfig,
        tasks: list[dict[str, Any]],
        held_out: list[dict[str, Any]],
        work: Path,
    ) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.policy, self.tokenizer, self.config = policy, tokenizer, config
        self.tasks, self.held_out = tasks, held_out[: config.accuracy_tasks]
        self.kept = work / "rollouts.jsonl"
        self.kept.touch()
        self.kept_bytes = 0
        self.history: list[dict[str, float]] = []
        self.validated: list[dict[str, float]] = []
        self.skipped: list[int] = []
        self.spent = [0.0, 0.0, 0.0]
        """Seconds of rollouts, of updates, and of all, in this process."""

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
        if self.policy.rank == 0:
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
            self.policy.renew_reference()
        rollout = roll_out(self.policy, self.tokenizer, self.tasks, config, step)
        wrote = time.monotonic() - started
        rate = learning_rate(config, step)
        row = {"step": float(step + 1), "learning_rate": rate, **_summary(rollout), **self.update(rollout, step, rate)}
        self.history.append(row)
        updated = time.monotonic() - started - wrote
        self.policy.refresh()
        tokens = sum(len(answer.tokens) for answer in rollout.answers)
        seconds = time.monotonic() - started
        self.spent = [total + part for total, part in zip(self.spent, (wrote, updated, seconds), strict=True)]
        if self.policy.rank == 0:
            self.keep(rollout, step)
            events.metrics({name: value for name, value in row.items() if name != "step"}, step + 1)
            speeds = {"sampled_tokens_per_second": tokens / wrote, "seconds_per_step": seconds}
            events.metrics(speeds | {"seconds_per_rollout": wrote, "seconds_per_update": updated}, step + 1)
            events.advance()
        done = step + 1
        if done == config.steps or (config.validate_every and done % config.validate_every == 0):
            self.validate(done)
        self.guard(done)

    def update(self, rollout: Rollout, step: int, rate: float) -> dict[str, float]:
        """The updates of one step, each on a share of the questions; what they had to say, in the mean."""
        config, policy = self.config, self.policy
        per_update = -(-config.questions // config.minibatches) * config.group_size
        rows = []
        for start in range(0, len(rollout.answers), per_update):
            row = policy.update(rollout.answers[start : start + per_update], rate)
            if row is None:
                self.skipped.append(step + 1)
                self.note(f"step {step + 1}: the loss is not a number, skipped")
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
                "value": solution.value,
                "program": solution.program,
                "expected": task["answer"],
                "accuracy": mark.accuracy,
                "format": mark.format,
                "language": mark.language,
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
        """Ask the held-out questions, greedily, after `done` steps; ranks share them out."""
        from model.generation.generate import Sampling
        from model.generation.solve import solve
        from model.rl.rewards import reward
        from model.rl.rollout import program_limits

        policy, config = self.policy, self.config
        solutions = solve(
            policy.actor,
            self.tokenizer,
            self.held_out[policy.rank :: policy.world],
            Sampling(config.max_new_tokens),
            programs=config.programs,
            limits=program_limits(config),
        )
        marks = [(reward(solution, config), len(solution.completion.tokens)) for solution in solutions]
        everyone = [mark for part in policy.gather(marks) for mark in part]
        row = {
            "step": float(done),
            "reward": fmean(mark.total for mark, _ in everyone),
            "accuracy": fmean(mark.accuracy for mark, _ in everyone),
            "format": fmean(mark.format for mark, _ in everyone),
            "length": fmean(length for _, length in everyone),
        }
        self.validated.append(row)
        if policy.rank == 0:
            events.metrics({f"validation_{name}": value for name, value in row.items() if name != "step"}, done)

    def guard(self, done: int) -> None:
        """End a run whose policy goes wrong; say so when there is nothing left to learn from."""
        reason = reason_to_stop(self.history, self.validated, self.config)
        if reason:
            raise UserError(f"grpo: step {done}: {reason}")
        taught = [any(row["informative"] for row in self.history[-back - WINDOW : -back or None]) for back in (0, 1)]
        if len(self.history) >= WINDOW and not taught[0] and (len(self.history) == WINDOW or taught[1]):
            self.note(
                f"step {done}: no group of {WINDOW} steps had answers of different rewards: there is nothing to learn "
                "from; choose tasks that the model solves sometimes"
            )

    def note(self, text: str) -> None:
        """Tell the person watching, once."""
        if self.policy.rank == 0:
            events.note(text)

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
        if self.history and self.spent[2]:
            found |= {
                f"{name}_seconds_share": round(part / self.spent[2], 3)
                for name, part in zip(("rollout", "update"), self.spent, strict=False)
            }
        for name in ("kl", "entropy", "informative", "length", "program_share"):
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
        "distinct": len({tuple(answer.tokens) for answer in rollout.answers}) / len(rollout.answers),
        "language": fmean(mark.language for mark in rollout.rewards),
        "program_share": fmean(bool(solution.program) for solution in rollout.solutions),
    }
