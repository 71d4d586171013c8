"""Sees a policy go wrong: collapse, flight from the reference, endless answers, and rewards earned by a trick.

All judge means over a window of steps, so that one unlucky rollout ends nothing. What they find is a reason to stop, in
words for the person who started the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from infra import events
from infra.errors import UserError
from model.finetune_sections import GrpoConfig
from model.training.hooks import Hook
from model.training.trainer import Task

__all__ = ["WINDOW", "PolicyWatch", "reason_to_stop"]

WINDOW = 10
"""Steps whose mean is judged."""

Rows = Sequence[Mapping[str, float]]


class PolicyWatch(Hook):
    """Ends a run whose policy goes wrong, and says so when there is nothing left to learn from."""

    def __init__(self, config: GrpoConfig, task: Task, *, tells: bool = True, stage: str = "grpo") -> None:
        self._config, self._task, self._tells, self._stage = config, task, tells, stage

    def step_ended(self, done: int) -> None:
        """Judge the history so far.

        Raises:
            UserError: the run should not go on.
        """
        history = self._task.history
        if reason := reason_to_stop(history.steps, history.evaluations, self._config):
            raise UserError(f"{self._stage}: step {done}: {reason}")
        if self._tells and _has_dried_up(history.steps):
            events.note(
                f"step {done}: no group of {WINDOW} steps had answers of different rewards: there is nothing to learn "
                "from; choose tasks that the model solves sometimes"
            )


def _has_dried_up(history: Rows) -> bool:
    """Whether the last `WINDOW` steps taught nothing, and it has not been said: those up to the step before did."""
    taught = [any(row["informative"] for row in history[-back - WINDOW : -back or None]) for back in (0, 1)]
    return len(history) >= WINDOW and not taught[0] and (len(history) == WINDOW or taught[1])


def reason_to_stop(history: Rows, validated: Rows, config: GrpoConfig) -> str | None:
    """Why the run should not go on, or None.

    Args:
        history: a row per step: reward, accuracy, format, finished and, with a reference, kl.
        validated: a row per validation: step and accuracy on held-out questions.
    """
    checks = (_collapse(history, config), _distance(history, config), _endless(history, config))
    tricks = (_trick(history, config), _memory(history, validated, config))
    return next((reason for reason in (*checks, *tricks) if reason), None)


def windows(history: Rows, name: str) -> list[float]:
    """Mean of each run of `WINDOW` steps; steps without the value are passed over."""
    values = [row[name] for row in history if name in row]
    return [fmean(values[end - WINDOW : end]) for end in range(WINDOW, len(values) + 1)]


def _collapse(history: Rows, config: GrpoConfig) -> str | None:
    means = windows(history, "reward")
    if not means or means[-1] >= config.collapse_below * max(means):
        return None
    return (
        f"the policy has collapsed: mean reward {means[-1]:.3f} over {WINDOW} steps, {max(means):.3f} at its best; "
        "lower learning_rate, raise kl_weight, or end before with steps"
    )


def _distance(history: Rows, config: GrpoConfig) -> str | None:
    means = windows(history, "kl")
    if not config.max_kl or not means or means[-1] <= config.max_kl:
        return None
    return (
        f"the policy has left its reference: {means[-1]:.3g} nats per token over {WINDOW} steps, max_kl is "
        f"{config.max_kl:g}; lower learning_rate or raise kl_weight"
    )


def _endless(history: Rows, config: GrpoConfig) -> str | None:
    means = windows(history, "finished")
    if not means or max(means) < 2 * config.min_finished or means[-1] >= config.min_finished:
        return None
    return (
        f"answers no longer end: {means[-1]:.0%} over {WINDOW} steps did, {max(means):.0%} at best; "
        "raise max_new_tokens, or lower learning_rate"
    )


def _trick(history: Rows, config: GrpoConfig) -> str | None:
    """The reward holds, and accuracy is gone: something else is being rewarded."""
    rewards, right = windows(history, "reward"), windows(history, "accuracy")
    if not config.collapse_below or not rewards or rewards[-1] < 0.95 * max(rewards):
        return None
    if max(right) < 0.1 or right[-1] >= config.collapse_below * max(right):
        return None
    return (
        f"the reward is earned by a trick: it is {rewards[-1]:.3f}, near its best, while accuracy fell from "
        f"{max(right):.0%} to {right[-1]:.0%}; lower format_reward and language_reward, and read rollouts.jsonl"
    )


def _memory(history: Rows, validated: Rows, config: GrpoConfig) -> str | None:
    """Accuracy rises on the questions it trains on, and falls on those it does not."""
    if not config.hacking_margin or len(validated) < 2 or len(history) < WINDOW:
        return None
    best = max(validated, key=lambda row: row["accuracy"])
    drop = best["accuracy"] - validated[-1]["accuracy"]
    then = [row["accuracy"] for row in history if row["step"] <= max(best["step"], WINDOW)][-WINDOW:]
    now = [row["accuracy"] for row in history[-WINDOW:]]
    if drop <= config.hacking_margin or fmean(now) < fmean(then):
        return None
    return (
        f"rewards rise and held-out accuracy falls, from {best['accuracy']:.0%} after step {best['step']:.0f} to "
        f"{validated[-1]['accuracy']:.0%}: the policy learns its questions by heart, or a hole in a scorer; use more "
        f"questions, end at step {best['step']:.0f}, and read rollouts.jsonl"
    )
