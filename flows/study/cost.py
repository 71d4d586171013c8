"""What a study or a ladder costs: the operations of all its trainings, and the time that two cores take for them."""

from __future__ import annotations

from flows.recipe.recipe import Recipe
from flows.recipe.training_plan import plan_training
from flows.study.ladder import Ladder, wanted
from infra.units import duration

__all__ = ["cost_line", "ladder_flops", "training_flops"]

TWO_CORES = 60e9
"""Operations per second that a training of some hundred thousand to some million parameters reaches on two cores,
to be cautious: one gives 49 to 67 GFLOP to a second of its own (docs/experiments.md, "Ladders")."""


def training_flops(recipe: Recipe) -> float:
    """Of pretraining, continued pretraining and supervised fine-tuning; what is sampled comes on top."""
    plan = plan_training(recipe)
    tokens = plan.tokens
    if more := recipe.continued:
        tokens += more.steps * more.batch_size * recipe.shards.sequence_length
    if tuned := recipe.sft:
        tokens += tuned.steps * tuned.batch_size * tuned.sequence_length
    return plan.flops_per_token * tokens


def ladder_flops(ladder: Ladder) -> float:
    """Of the least number of trials: the sweeps as they begin, and all climbs, of which one an arm was swept."""
    swept = len(wanted(ladder, {})) - len(ladder.arms)
    climbs = len(ladder.arms) * len(ladder.seeds) * sum(rung.flops for rung in ladder.rungs)
    return climbs + swept * ladder.rungs[0].flops


def cost_line(flops: float) -> str:
    """For people."""
    return (
        f"{flops:.1e} operations of training: some {duration(flops / TWO_CORES)} of two cores that do nothing else "
        f"(at {TWO_CORES / 1e9:.0f} GFLOP/s); evaluation and the start of stages come on top"
    )
