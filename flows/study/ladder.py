"""A ladder: the same arms at several budgets of compute, each arm at a learning rate of its own.

A study compares arms at one size with one setting of everything, which favours whichever arm the setting suits. A
ladder climbs rungs of equal training compute (iso-FLOP). On the smallest rung every arm is swept: over the strength of
its experts' branch and over the learning rate, further while the best is at the edge of what was tried. What won is
carried up by a rule that is written down (`carried_rate`), and every arm climbs with every seed.

What runs next is a pure function of what has been measured (`wanted`), so a ladder that is cut short goes on where it
was, and where trials run (a flow, or packed onto one GPU by `bench.study`) is no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from flows.recipe.recipe import Recipe
from flows.recipe.training_plan import plan_training
from flows.study.study import AFTER_PRETRAINING, OverBase, recipe_with, study_values
from infra.errors import UserError
from infra.json_objects import JsonObject
from infra.section import Section
from model.facts.training import PretrainMetrics

__all__ = [
    "Ladder",
    "LadderArm",
    "LadderTrial",
    "Measured",
    "Results",
    "Rung",
    "carried_rate",
    "climbed",
    "is_at_edge",
    "is_ladder",
    "measured_of",
    "recipe_of",
    "sweep",
    "swept_best",
    "wanted",
]

RATE_EXPONENT = -0.125
"""Best learning rates fall with compute to this power (DeepSeek-LLM, arXiv 2401.02954, Eq 1)."""
STEP = 2.0
"""Between neighbouring learning rates of a sweep."""
FURTHEST = 4
"""Learning rates that a sweep may add at either end."""


class LadderArm(Section):
    """A feed-forward layer, as wide for a token as the rung's dense one."""

    experts: int = Field(0, ge=0)
    """Routed experts; 0 for a dense layer."""
    chosen: int = Field(0, ge=0)
    """Of them, for each token."""
    shared: int = Field(0, ge=0)
    """Experts that every token passes."""

    @property
    def is_dense(self) -> bool:
        """Whether there are no experts."""
        return self.experts == 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.is_dense and not 0 < self.chosen <= self.experts:
            raise ValueError("chosen must be between 1 and experts")
        return self


class Rung(Section):
    """One budget, and the model that spends it."""

    flops: float = Field(gt=0)
    """Training operations of a trial."""
    hidden_size: int = Field(ge=8)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=8)
    """Width of the dense arm's feed-forward layers; experts take their shares of it."""
    batch_size: int = Field(ge=1)
    """Sequences per step."""


class Ladder(OverBase):
    """What climbs, how far, and what is swept."""

    name: str = Field("ladder", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the ladder and its runs."""
    description: str = ""
    """The question, in one line."""
    pass_marks: tuple[str, ...] = ()
    """What was asked for, written down before the run: shown on the page."""
    arms: dict[str, LadderArm] = Field(min_length=2)
    """By name; the first is the baseline."""
    rungs: tuple[Rung, ...] = Field(min_length=1)
    """From the smallest budget to the largest."""
    rates: tuple[float, ...] = Field((1e-3, 2e-3, 4e-3), min_length=2)
    """Learning rates that the sweep begins with, each twice the one before."""
    strengths: tuple[float, ...] = Field((0.5, 1.0), min_length=1)
    """Of the routed experts' branch at initialisation, as shares of a dense layer's: their gates sum to it times the
    square root of the chosen experts, whose outputs add up like independent numbers."""
    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=1)
    """Every arm climbs with each; the sweep takes the first."""

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return next(iter(self.arms))

    @model_validator(mode="after")
    def _climbs(self) -> Self:
        budgets = [rung.flops for rung in self.rungs]
        if budgets != sorted(set(budgets)):
            raise ValueError("the budgets of the rungs must rise")
        if list(self.rates) != sorted(self.rates):
            raise ValueError("the learning rates must rise")
        if not self.arms[self.baseline].is_dense:
            raise ValueError(f"the first arm, {self.baseline}, is the baseline and must be dense")
        for name, arm in self.arms.items():
            shares = arm.chosen + arm.shared
            for width in (rung.intermediate_size for rung in self.rungs):
                if not arm.is_dense and width % shares:
                    raise ValueError(f"{name}: the {shares} experts of a token do not share out a width of {width}")
        return self


@dataclass(frozen=True, order=True)
class LadderTrial:
    """One training."""

    arm: str
    rung: int
    strength: float
    """1 for a dense arm."""
    rate: float
    seed: int


@dataclass(frozen=True)
class Measured:
    """What a training ended with."""

    loss: float
    """Held-out, nats per token."""
    seconds: float = 0.0
    """Of training, where it ran."""
    induction: float | None = None
    """Nats that a token costs less when it repeats."""
    busiest: float | None = None
    """Load of the busiest expert over an even share, mean over layers."""


Results = Mapping[LadderTrial, Measured]


def is_ladder(source: str) -> bool:
    """Whether a name or a YAML file is that of a ladder, and not of a study of one size."""
    return "rungs" in study_values(source)[1]


def wanted(ladder: Ladder, results: Results) -> list[LadderTrial]:
    """The trials to run next: all that do not depend on one another; none when the ladder has been climbed."""
    found: list[LadderTrial] = []
    ready: list[str] = []
    for arm in ladder.arms:
        missing = [trial for trial in sweep(ladder, arm, results) if trial not in results]
        found += missing
        if not missing:
            ready.append(arm)
    for seed in ladder.seeds:
        for rung in range(len(ladder.rungs)):
            climbing = [_climbing(ladder, arm, rung, seed, results) for arm in ready]
            found += [trial for trial in climbing if trial not in results and trial not in found]
    return found


def sweep(ladder: Ladder, arm: str, results: Results) -> list[LadderTrial]:
    """The trials of an arm's sweep as far as it is known: the grid, and one further at an edge that is best."""
    seed = ladder.seeds[0]
    strengths = (1.0,) if ladder.arms[arm].is_dense else ladder.strengths
    found: list[LadderTrial] = []
    for strength in strengths:
        rates = list(ladder.rates)
        while True:
            line = [LadderTrial(arm, 0, strength, rate, seed) for rate in rates]
            if any(trial not in results for trial in line) or len(rates) >= len(ladder.rates) + FURTHEST:
                break
            best = min(line, key=lambda trial: results[trial].loss).rate
            if best == rates[0]:
                rates.insert(0, _rounded(best / STEP))
            elif best == rates[-1]:
                rates.append(_rounded(best * STEP))
            else:
                break
        found += line
    return found


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


def swept_best(ladder: Ladder, arm: str, results: Results) -> LadderTrial:
    """The best trial of an arm's sweep, which has ended."""
    return min(sweep(ladder, arm, results), key=lambda trial: (results[trial].loss, trial))


def carried_rate(ladder: Ladder, rate: float, rung: int) -> float:
    """The learning rate of a rung from the best of the smallest: it falls with compute to the power of -1/8."""
    return _rounded(rate * (ladder.rungs[rung].flops / ladder.rungs[0].flops) ** RATE_EXPONENT)


def _climbing(ladder: Ladder, arm: str, rung: int, seed: int, results: Results) -> LadderTrial:
    best = swept_best(ladder, arm, results)
    return LadderTrial(arm, rung, best.strength, carried_rate(ladder, best.rate, rung), seed)


def is_at_edge(ladder: Ladder, arm: str, results: Results) -> bool:
    """Whether an arm's best learning rate is the least or the greatest that was tried at its strength."""
    best = swept_best(ladder, arm, results)
    rates = [trial.rate for trial in sweep(ladder, arm, results) if trial.strength == best.strength]
    return best.rate in (min(rates), max(rates))


def climbed(ladder: Ladder, arm: str, rung: int, results: Results) -> dict[int, Measured]:
    """What an arm reached on a rung at the settings that it climbs with, by seed; the seeds that there are."""
    found = {seed: results.get(_climbing(ladder, arm, rung, seed, results)) for seed in ladder.seeds}
    return {seed: measured for seed, measured in found.items() if measured is not None}


def recipe_of(ladder: Ladder, trial: LadderTrial) -> Recipe:
    """The recipe of a trial, with as many steps as its budget pays for.

    Raises:
        UserError: a key that no recipe has, or a budget too small for ten steps.
    """
    arm, rung = ladder.arms[trial.arm], ladder.rungs[trial.rung]
    settings = ladder.settings | _model(arm, rung, trial) | dict.fromkeys(AFTER_PRETRAINING)
    settings |= {
        "name": f"{ladder.name}-{trial.arm}-{trial.rung}-{trial.strength:g}-{trial.rate:g}-{trial.seed}",
        "pretrain.seed": trial.seed,
        "pretrain.learning_rate": trial.rate,
        "pretrain.batch_size": rung.batch_size,
    }
    where = f"ladder {ladder.name}, arm {trial.arm}"
    recipe = recipe_with(ladder.base, settings, where)
    tokens = rung.batch_size * recipe.shards.sequence_length
    steps = round(rung.flops / plan_training(recipe).flops_per_token / tokens)
    if steps < 10:
        raise UserError(
            f"ladder {ladder.name}: {rung.flops:.0e} FLOPs are {steps} steps of {trial.arm}; lower batch_size"
        )
    length = {"pretrain.steps": steps, "pretrain.warmup_steps": max(1, steps // 10)}
    return recipe_with(ladder.base, settings | length, where)


def _model(arm: LadderArm, rung: Rung, trial: LadderTrial) -> JsonObject:
    model: JsonObject = {
        "model_type": "deepseek",
        "hidden_size": rung.hidden_size,
        "num_hidden_layers": rung.num_hidden_layers,
        "num_attention_heads": rung.num_attention_heads,
        "intermediate_size": rung.intermediate_size,
        "first_k_dense_replace": rung.num_hidden_layers if arm.is_dense else 0,
    }
    if not arm.is_dense:
        model |= {
            "moe_intermediate_size": rung.intermediate_size // (arm.chosen + arm.shared),
            "n_routed_experts": arm.experts,
            "num_experts_per_tok": arm.chosen,
            "n_shared_experts": arm.shared,
            "norm_topk_prob": True,
            "routed_scaling_factor": _rounded(trial.strength * math.sqrt(arm.chosen)),
        }
    return {f"pretrain.model.{key}": value for key, value in model.items()}


def measured_of(metrics: PretrainMetrics) -> Measured:
    """What a ladder keeps of a training's metrics.

    Raises:
        ValueError: it has no held-out loss.
    """
    if metrics.loss_after is None:
        raise ValueError("no held-out loss: set pretrain.validation_sequences")
    return Measured(
        loss=metrics.loss_after,
        seconds=metrics.seconds or 0.0,
        induction=metrics.named("induction_after"),
        busiest=metrics.busiest_expert,
    )
