"""How strong the arms' feed-forward branches are before training: arms that begin far apart are not compared alike."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from flows.recipe.recipe import Recipe
from model.architecture.config import count_parameters

__all__ = ["branch_ratios", "branch_warning"]

MOST_APART = 2.0
"""Times that the strongest branch may be of the weakest before it is said."""
LARGEST = 300_000_000
"""Parameters up to which a model is made to look at."""


def branch_ratios(recipes: Mapping[str, Recipe], baseline: str) -> dict[str, float]:
    """By arm: root mean square of what its feed-forward layers add at initialisation, over that of the dense arm, or of
    the baseline where none is dense; mean over the layers. Arms too large to be made for it are left out, and all of
    them without the one they are compared with."""
    found = {arm: strength for arm, recipe in recipes.items() if (strength := _strength(recipe)) is not None}
    plain = next((arm for arm, recipe in recipes.items() if _is_dense(recipe)), baseline)
    return {arm: strength / found[plain] for arm, strength in found.items()} if plain in found else {}


def _is_dense(recipe: Recipe) -> bool:
    return recipe.pretrain is not None and not recipe.pretrain.model.moe_layers


def _strength(recipe: Recipe) -> float | None:
    from model.training.initial import branch_strengths

    config = recipe.pretrain
    if config is None:
        return None
    model = config.model.model_copy(update={"vocab_size": 64})  # the vocabulary takes no part in it
    if count_parameters(model) > LARGEST:
        return None
    return statistics.fmean(branch_strengths(model, config.initial, config.seed))


def branch_warning(ratios: Mapping[str, float], *, swept: bool = False) -> str:
    """One line where the arms begin more than twice apart; else nothing. In a ladder each arm's strength is `swept`."""
    if not ratios or max(ratios.values()) <= MOST_APART * min(ratios.values()):
        return ""
    weakest, strongest = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
    times = ratios[strongest] / ratios[weakest]
    begins = f"the feed-forward branch of {strongest} begins {times:.1f} times as strong as that of {weakest}"
    if swept:
        return f"{begins}; each has the strength and the learning rate that were best for it among those tried"
    return (
        f"{begins}: their difference may be one of initial scale; set routed_scaling_factor, or sweep the learning "
        "rate per arm"
    )
