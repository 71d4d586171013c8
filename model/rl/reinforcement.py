"""The task of `grpo`: rollouts, the updates that they teach, and held-out questions as the measure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from model.finetune_sections import GrpoConfig
from model.generation.generate import Sampling
from model.generation.solve import answered, solve
from model.rl.policy import Policy
from model.rl.rewards import reward
from model.rl.rollout import Rollout, program_limits, roll_out
from model.sections import BadStep
from model.training.engine import Engine
from model.training.guard import BadSteps
from model.training.journal import Journal, Row
from model.training.schedule import learning_rate
from model.training.trainer import StepRecord, StepResult, Task, TaskState
from pipeline.reasoning.problems import Problem

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Reinforcement"]


class Reinforcement(Task):
    """A policy that answers questions and learns from what its answers earn.

    Args:
        kept: gets some answers of every step, so that a person can see what it was about.
        measure: further numbers of an evaluation.
        stage: whose key an error names.
    """

    phase = "train"

    def __init__(
        self,
        policy: Policy,
        tokenizer: Tokenizer,
        config: GrpoConfig,
        tasks: Sequence[Problem],
        held_out: Sequence[Problem],
        kept: Journal,
        measure: Callable[[Engine, int], Row] | None = None,
        stage: str = "grpo",
    ) -> None:
        self.policy, self.tokenizer, self.config, self.kept = policy, tokenizer, config, kept
        self.measure = measure
        self.tasks, self.held_out = tasks, held_out[: config.accuracy_tasks]
        self.bad = BadSteps(BadStep.SKIP, f"lower {stage}.learning_rate", stage=stage, tells=policy.rank == 0)
        self._spent = [0.0, 0.0, 0.0]

    def step(self, step: int) -> StepResult:
        """One rollout and its updates."""
        config = self.config
        started = time.monotonic()
        if config.reference_every and step and step % config.reference_every == 0:
            self.policy.renew_reference()
        rollout = roll_out(self.policy, self.tokenizer, self.tasks, config, step)
        wrote = time.monotonic() - started
        rate = learning_rate(config, step)
        numbers = {"learning_rate": rate, **_summary(rollout), **self._update(rollout, step, rate)}
        updated = time.monotonic() - started - wrote
        self.policy.refresh()
        seconds = time.monotonic() - started
        self._spent = [total + part for total, part in zip(self._spent, (wrote, updated, seconds), strict=True)]
        self._keep(rollout, step)
        speeds = {
            "sampled_tokens_per_second": sum(len(answer.tokens) for answer in rollout.answers) / wrote,
            "seconds_per_step": seconds,
            "seconds_per_rollout": wrote,
            "seconds_per_update": updated,
        }
        return StepResult(numbers, speeds=speeds)

    def record(self, record: StepRecord) -> Row:
        """What the answers were like, and what the updates had to say."""
        return {"step": float(record.step + 1), **record.numbers}

    def _update(self, rollout: Rollout, step: int, rate: float) -> dict[str, float]:
        """The updates of one step, each on a share of the questions; what they had to say, in the mean."""
        config = self.config
        per_update = -(-config.questions // config.minibatches) * config.group_size
        starts = list(range(0, len(rollout.learned), per_update)) * config.passes
        rows = []
        for number, start in enumerate(starts, step * config.minibatches * config.passes):
            row = self.policy.update(rollout.learned[start : start + per_update], rate, number)
            if row is None:
                self.bad.add(step, "the loss is not a number")
            else:
                rows.append(row)
        return {name: fmean(row[name] for row in rows) for name in rows[0]} if rows else {}

    def _keep(self, rollout: Rollout, step: int) -> None:
        """Some answers to one question, on disk at once for whoever looks why the run was ended."""
        for number in range(min(self.config.logged_completions, self.config.group_size)):
            task, solution = rollout.rows[number], rollout.solutions[number]
            mark = rollout.rewards[number]
            answer = {
                "step": step + 1,
                "id": task["id"],
                **answered(task, solution),
                "accuracy": mark.accuracy,
                "format": mark.format,
                "language": mark.language,
                "reward": mark.total,
                "advantage": round(rollout.answers[number].advantage, 4),
                "tokens": len(solution.completion.tokens),
            }
            self.kept.append(answer)
        self.kept.try_to_flush()

    def evaluate(self, done: int) -> Row:
        """What the held-out questions earn, answered greedily, and what is measured besides; ranks share both
        out."""
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
        return {
            "reward": fmean(mark.total for mark, _ in everyone),
            "accuracy": fmean(mark.accuracy for mark, _ in everyone),
            "format": fmean(mark.format for mark, _ in everyone),
            "length": fmean(length for _, length in everyone),
            **(self.measure(policy.engine, done) if self.measure is not None else {}),
        }

    def shares(self) -> dict[str, float]:
        """Shares of this process's time that went into rollouts and into updates."""
        written, updated, whole = self._spent
        if not whole:
            return {}
        return {"rollout_seconds_share": round(written / whole, 3), "update_seconds_share": round(updated / whole, 3)}

    def state(self) -> TaskState:
        """Steps with updates that were thrown away."""
        return TaskState(skipped=self.bad.steps)

    def restore(self, state: TaskState) -> None:
        """Take up what `state` gave."""
        self.bad.steps = state.skipped


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
