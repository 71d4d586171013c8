"""Answers sampled from a policy, and marked.

A step is a pure function of the policy, the seed and the step's number: which questions it asks and every random number
of the samples follow from the last two, so a run that was cut goes on with the very same answers.

Shapes: Q questions, G answers to each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from model.architecture.transformer import Transformer
from model.finetune_sections import GrpoConfig
from model.generation.generate import Sampling
from model.generation.solve import Solution, solve
from model.rl.batches import Answer
from model.rl.loss import group_advantages
from model.rl.rewards import Reward, reward
from model.training.epochs import places_of_step
from pipeline.reasoning.problems import Problem
from pipeline.reasoning.sandbox import Limits
from pipeline.tokens.chat import chat_format

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Rollout", "Writer", "program_limits", "roll_out"]

GENERATION_BATCH = 256
"""Answers written at once."""


class Writer(Protocol):
    """Who writes answers: `model.rl.policy.Policy`, or one process with a model."""

    @property
    def actor(self) -> Transformer: ...

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    def gather(self, mine: Any) -> list[Any]: ...


@dataclass(frozen=True)
class Rollout:
    """The answers of one step, all of a question together."""

    rows: list[Problem]
    """The task of each answer."""
    solutions: list[Solution]
    rewards: list[Reward]
    answers: list[Answer]
    learned: list[Answer]
    """Those of them that the update is made of."""
    informative: float
    """Share of the questions whose answers differ in reward: the only ones that teach."""


def roll_out(policy: Writer, tokenizer: Tokenizer, tasks: Sequence[Problem], config: GrpoConfig, step: int) -> Rollout:
    """Let the policy answer the questions of `step`, `group_size` times each; every rank gets all the answers.

    Ranks share the questions out. The random numbers of an answer follow from its place in the step alone, so what is
    said does not depend on how many ranks there are, but for near-ties that rounding decides. With `sampling_rounds`
    more questions are asked while too few have taught something, and those that have not are left out of `learned`.
    """
    rounds: list[Rollout] = []
    groups: list[list[Answer]] = []
    while len(rounds) < config.sampling_rounds and len(groups) < config.questions:
        rounds.append(_round(policy, tokenizer, tasks, config, step, len(rounds)))
        answers = rounds[-1].answers
        cut = [answers[start : start + config.group_size] for start in range(0, len(answers), config.group_size)]
        groups += [group for group in cut if any(answer.advantage for answer in group)]
    if config.sampling_rounds == 1 or not groups:
        return rounds[0]
    return Rollout(
        rows=list(chain.from_iterable(part.rows for part in rounds)),
        solutions=list(chain.from_iterable(part.solutions for part in rounds)),
        rewards=list(chain.from_iterable(part.rewards for part in rounds)),
        answers=list(chain.from_iterable(part.answers for part in rounds)),
        learned=list(chain.from_iterable(groups[: config.questions])),
        informative=fmean(part.informative for part in rounds),
    )


def _round(
    policy: Writer, tokenizer: Tokenizer, tasks: Sequence[Problem], config: GrpoConfig, step: int, later: int
) -> Rollout:
    """Round `later` of a step, from 0: questions of its own, and what the policy makes of them."""
    asked = places_of_step(step * config.sampling_rounds + later, config.questions, len(tasks), config.seed)
    rows = [tasks[number] for number in asked for _ in range(config.group_size)]
    mine = [
        place for place in range(len(rows)) if place // config.group_size % policy.world == policy.rank
    ]  # whole groups: equal prompts are computed once
    entropy = (config.seed, step, later) if later else (config.seed, step)
    noise = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    found = solve(
        policy.actor,
        tokenizer,
        [rows[place] for place in mine],
        Sampling(config.max_new_tokens, temperature=1.0, seed=noise),
        batch_size=GENERATION_BATCH,
        numbers=mine,
        programs=config.programs,
        limits=program_limits(config),
        logprobs=True,
    )
    by_place = dict(pair for part in policy.gather(list(zip(mine, found, strict=True))) for pair in part)
    solutions = [by_place[place] for place in range(len(rows))]
    rewards = [reward(solution, config) for solution in solutions]
    rewards_QG = torch.tensor([mark.total for mark in rewards], dtype=torch.float64).view(-1, config.group_size)
    advantages_QG = group_advantages(rewards_QG, config.advantage)
    chat = chat_format(tokenizer)
    prompts = {number: chat.question(tasks[number]["question"]) for number in asked}
    answers = [
        Answer(
            prompts[asked[place // config.group_size]], solution.completion.tokens, solution.completion.logprobs, edge
        )
        for place, (solution, edge) in enumerate(zip(solutions, advantages_QG.flatten().tolist(), strict=True))
    ]
    return Rollout(rows, solutions, rewards, answers, answers, advantages_QG.any(1).double().mean().item())


def program_limits(config: GrpoConfig) -> Limits:
    """What a program that an answer is may use."""
    return Limits(seconds=config.program_seconds, memory_bytes=config.program_megabytes << 20)
