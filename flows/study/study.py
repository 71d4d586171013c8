"""A study: recipes side by side that differ in what is studied and agree in what they cost.

One YAML file names a base recipe, the arms (settings laid over it), and seeds. Every arm is run with every seed; stages
that arms share are made once. The budgets of the arms are compared before anything runs, and a study whose arms do not
cost alike is refused unless it says so.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from flows.recipe.recipe import Recipe, load_recipe
from flows.recipe.stages import stage_names
from flows.recipe.training_plan import plan_training
from flows.recipe.yaml_values import yaml_mistake
from infra.errors import UserError, first_problem
from infra.json_objects import JsonObject
from infra.nearest import hint
from infra.section import Section

__all__ = [
    "Arm",
    "Budget",
    "Contrast",
    "Study",
    "Trial",
    "budgets",
    "contrast",
    "half_width",
    "load_study",
    "read_study",
    "recipe_with",
    "study_values",
    "trials",
]

STUDIES = Path(__file__).parent / "studies"
_NAMES = stage_names()
AFTER_PRETRAINING = tuple(name for name in _NAMES[_NAMES.index("pretrain") + 1 :] if name in Recipe.model_fields)

S = TypeVar("S", bound=Section)

Arm = JsonObject
"""Keys of a recipe (``pretrain.model.n_routed_experts``) and what this arm sets them to."""


class Budget(StrEnum):
    """What an arm costs."""

    PARAMETERS = "parameters"
    ACTIVE = "active"
    """Parameters that a token passes."""
    FLOPS = "flops"
    """Operations per token."""
    TOKENS = "tokens"


class Study(Section):
    """What is compared with what, and how often."""

    name: str = Field("study", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the study and its runs."""
    description: str = ""
    """The question, in one line."""
    base: str = "sample"
    """Recipe that all arms start from: a preset or a YAML file."""
    settings: Arm = Field(default_factory=dict)
    """Laid over the base in every arm."""
    arms: dict[str, Arm] = Field(min_length=2)
    """Laid over that, by name of the arm."""
    baseline: str = ""
    """The arm that the others are compared with; the first when empty."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """Every arm is trained with each: initial weights and order of the data."""
    tolerance: float = Field(0.05, ge=0)
    """Most relative difference of an arm's budgets from the baseline's."""
    unmatched: dict[str, tuple[Budget, ...]] = Field(default_factory=dict)
    """Budgets in which an arm may differ, by arm: a dense model has fewer parameters at the same cost."""
    only_pretrain: bool = True
    """Leave out all stages after pretraining."""

    @property
    def reference(self) -> str:
        """The arm that the others are compared with."""
        return self.baseline or next(iter(self.arms))

    @model_validator(mode="after")
    def _names_known(self) -> Self:
        for name in (self.reference, *self.unmatched):
            if name not in self.arms:
                raise ValueError(f"{name} is no arm; there are {', '.join(self.arms)}")
        return self


@dataclass(frozen=True)
class Trial:
    """One arm with one seed."""

    arm: str
    seed: int
    recipe: Recipe


@dataclass(frozen=True)
class Contrast:
    """An arm's final validation loss against the baseline's, seed by seed."""

    arm: str
    values: tuple[float, ...]
    """By seed."""
    difference: float
    """Mean over the seeds; negative where the arm is better."""
    half_width: float
    """Of the 95 % interval of that mean (Student's t over paired seeds); infinite with one seed."""
    wins: int
    """Seeds in which the arm is better."""

    @property
    def mean(self) -> float:
        """Of the values."""
        return statistics.fmean(self.values)

    @property
    def verdict(self) -> str:
        """What the numbers allow to say."""
        if self.difference == 0:
            return "the baseline, or equal to it"
        if abs(self.difference) <= self.half_width:
            return "not told apart from the baseline"
        return "better than the baseline" if self.difference < 0 else "worse than the baseline"


def load_study(source: str) -> Study:
    """The study of a name or a YAML file; UserError when there is none or a key is wrong."""
    return read_study(source, Study)


def read_study(source: str, kind: type[S]) -> S:
    """The `kind` of study of a name or a YAML file; UserError when there is none or a key is wrong."""
    path, values = study_values(source)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}") from None


def study_values(source: str) -> tuple[Path, JsonObject]:
    """The file of a name or a path, and what it says; UserError when there is none, or no mapping in it."""
    path = Path(source)
    if not path.suffix:
        path = STUDIES / f"{source}.yaml"
        if not path.exists():
            names = sorted(each.stem for each in STUDIES.glob("*.yaml"))
            near = hint(source, names, f"there are {', '.join(names)}, or give a .yaml file")
            raise UserError(f"{source}: no such study; {near}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read the study ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the study as UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {yaml_mistake(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: a study is a mapping of keys")
    return path, {"name": path.stem} | values


def trials(study: Study) -> list[Trial]:
    """Every arm with every seed, seed by seed, so that a study cut short has whole comparisons.

    Raises:
        UserError: a key that no recipe has, or arms that do not cost alike.
    """
    found = [_trial(study, name, seed) for seed in study.seeds for name in study.arms]
    _check_budgets(study, budgets(found))
    return found


def _trial(study: Study, name: str, seed: int) -> Trial:
    same_rows: Arm = {"pretrain.validation_seed": 0}  # whatever the seed
    settings = (
        same_rows | study.settings | study.arms[name] | {"pretrain.seed": seed, "name": f"{study.name}-{name}-{seed}"}
    )
    if study.only_pretrain:
        settings |= dict.fromkeys(AFTER_PRETRAINING)
    return Trial(name, seed, recipe_with(study.base, settings, f"study {study.name}, arm {name}"))


def recipe_with(base: str, settings: JsonObject, where: str) -> Recipe:
    """The recipe `base` with `settings` laid over it; UserError, which begins with `where`, when they do not fit."""
    try:
        return load_recipe(base, [f"{key}={json.dumps(value)}" for key, value in settings.items()])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def budgets(found: list[Trial]) -> dict[str, dict[Budget, float]]:
    """What each arm costs."""
    costs: dict[str, dict[Budget, float]] = {}
    for trial in found:
        if trial.arm not in costs:
            plan = plan_training(trial.recipe)
            costs[trial.arm] = {
                Budget.PARAMETERS: float(plan.parameters),
                Budget.ACTIVE: float(plan.active),
                Budget.FLOPS: plan.flops_per_token,
                Budget.TOKENS: float(plan.tokens),
            }
    return costs


def _check_budgets(study: Study, costs: Mapping[str, Mapping[Budget, float]]) -> None:
    own = costs[study.reference]
    for arm, cost in costs.items():
        for budget, value in cost.items():
            ratio = value / own[budget]
            if abs(ratio - 1) > study.tolerance and budget not in study.unmatched.get(arm, ()):
                raise UserError(
                    f"study {study.name}: arm {arm} has {ratio:.2f} times the {budget} of {study.reference}; "
                    f"match them, raise tolerance, or name it: unmatched: {{{arm}: [{budget}]}}"
                )


def contrast(study: Study, losses: Mapping[str, Mapping[int, float]]) -> list[Contrast]:
    """Every arm against the baseline, in the order of the study; `losses` by arm and seed, which all arms share."""
    reference = losses[study.reference]
    found = []
    for arm in study.arms:
        values = tuple(losses[arm][seed] for seed in sorted(reference))
        paired = [losses[arm][seed] - reference[seed] for seed in sorted(reference)]
        wins = sum(each < 0 for each in paired)
        found.append(Contrast(arm, values, statistics.fmean(paired), half_width(paired), wins))
    return found


def half_width(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean of `values` by Student's t; infinite with one value."""
    if len(values) < 2:
        return math.inf
    from scipy.stats import t  # takes half a second to import

    factor: float = t.ppf(0.975, len(values) - 1)
    return factor * statistics.stdev(values) / math.sqrt(len(values))
