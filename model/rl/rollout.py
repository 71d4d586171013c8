"""Answers sampled from a policy, marked, and laid out for the update.

A step is a pure function of the policy, the seed and the step's number: which questions it asks and every random number
of the samples follow from the last two, so a run that was cut goes on with the very same answers.

Shapes: B answers of a micro-batch, T tokens of the longest with its prompt, N tokens of answers, Q questions, G answers
to each.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from model.generate import Sampling, prompt_tokens
from model.rl.loss import group_advantages, log_probabilities
from model.rl.rewards import Reward, reward
from model.sections import GrpoConfig
from model.solve import Solution, solve
from model.transformer import Transformer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Answer", "MicroBatch", "Rollout", "micro_batches", "questions_of_step", "roll_out"]

GENERATION_BATCH = 256
"""Answers written at once."""


@dataclass(frozen=True)
class Answer:
    """One sampled answer: its tokens, and what it earned."""

    prompt: list[int]
    tokens: list[int]
    logprobs: list[float]
    """Of its tokens under the policy that wrote it."""
    advantage: float

    def __len__(self) -> int:
        return len(self.prompt) + len(self.tokens)


@dataclass(frozen=True)
class Rollout:
    """The answers of one step, all of a question together."""

    rows: list[Mapping[str, Any]]
    """The task of each answer."""
    solutions: list[Solution]
    rewards: list[Reward]
    answers: list[Answer]
    informative: float
    """Share of the questions whose answers differ in reward: the only ones that teach."""


@dataclass(frozen=True)
class MicroBatch:
    """Answers that go through the model together."""

    tokens_BT: Tensor
    """Prompts and answers, padded on the right, where causal attention needs no mask."""
    places_N: Tensor
    """Of each answer token the position, in the flattened [B * T], that predicts it."""
    targets_N: Tensor
    old_N: Tensor
    advantages_N: Tensor
    weights_N: Tensor

    def log_probabilities(self, model: Transformer) -> tuple[Tensor, Tensor]:
        """Log probabilities and entropies [N] of the answer tokens; the output layer runs for those alone."""
        device = self.tokens_BT.device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            hidden_BTD = model.hidden(self.tokens_BT)
            logits_NV = model.lm_head(hidden_BTD.flatten(0, 1).index_select(0, self.places_N))
        return log_probabilities(logits_NV.float(), self.targets_N)


def questions_of_step(step: int, per_step: int, total: int, seed: int) -> list[int]:
    """Numbers of the questions that `step` asks: every question once per lap, each lap in an order of its own."""
    chosen = []
    for place in range(step * per_step, (step + 1) * per_step):
        lap, place_in_lap = divmod(place, total)
        chosen.append(int(_order(lap, total, seed)[place_in_lap]))
    return chosen


@functools.lru_cache(maxsize=2)
def _order(lap: int, total: int, seed: int) -> np.ndarray:
    return np.random.default_rng((seed, lap)).permutation(total)


def roll_out(
    model: Transformer, tokenizer: Tokenizer, tasks: Sequence[Mapping[str, Any]], config: GrpoConfig, step: int
) -> Rollout:
    """Let the policy answer the questions of `step`, `group_size` times each."""
    asked = questions_of_step(step, config.questions, len(tasks), config.seed)
    rows = [tasks[number] for number in asked for _ in range(config.group_size)]
    noise = int(np.random.SeedSequence((config.seed, step)).generate_state(1, np.uint64)[0])
    sampling = Sampling(config.max_new_tokens, temperature=1.0, seed=noise)
    solutions = solve(model, tokenizer, rows, sampling, batch_size=GENERATION_BATCH)
    rewards = [reward(solution, config) for solution in solutions]
    rewards_QG = torch.tensor([mark.total for mark in rewards], dtype=torch.float64).view(-1, config.group_size)
    advantages_QG = group_advantages(rewards_QG)
    answers = [
        Answer(
            prompt_tokens(tokenizer, row["question"]), solution.completion.tokens, solution.completion.logprobs, edge
        )
        for row, solution, edge in zip(rows, solutions, advantages_QG.flatten().tolist(), strict=True)
    ]
    return Rollout(rows, solutions, rewards, answers, advantages_QG.any(1).double().mean().item())


def micro_batches(answers: Sequence[Answer], max_tokens: int, device: torch.device) -> Iterator[MicroBatch]:
    """Cut the answers of one update into micro-batches of at most `max_tokens` padded tokens, like lengths together.

    The weights are those of the whole update: the losses of the micro-batches add up to its loss.
    """
    order = sorted(range(len(answers)), key=lambda number: (-len(answers[number]), number))
    start = 0
    while start < len(order):
        longest = len(answers[order[start]])
        end = start + max(1, max_tokens // longest)
        chosen = [answers[number] for number in order[start:end]]
        yield _micro_batch(chosen, longest, len(answers), device)
        start = end


def _micro_batch(chosen: Sequence[Answer], longest: int, total: int, device: torch.device) -> MicroBatch:
    tokens = np.zeros((len(chosen), longest), dtype=np.int64)
    places: list[int] = []
    for row, answer in enumerate(chosen):
        tokens[row, : len(answer)] = answer.prompt + answer.tokens
        first = row * longest + len(answer.prompt) - 1
        places += range(first, first + len(answer.tokens))
    lengths = [len(answer.tokens) for answer in chosen]

    def spread(values: Sequence[float]) -> Tensor:
        return torch.from_numpy(np.repeat(np.asarray(values, dtype=np.float32), lengths)).to(device)

    return MicroBatch(
        tokens_BT=torch.from_numpy(tokens).to(device),
        places_N=torch.tensor(places, device=device),
        targets_N=torch.tensor([token for answer in chosen for token in answer.tokens], device=device),
        old_N=torch.tensor([value for answer in chosen for value in answer.logprobs], device=device),
        advantages_N=spread([answer.advantage for answer in chosen]),
        weights_N=spread([1 / (total * length) for length in lengths]),
    )
