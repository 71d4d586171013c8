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
from flows.recipe.stages import CHECKPOINTS, stage_names
from flows.recipe.training_plan import plan_training
from flows.recipe.yaml_values import near_file, read_file, read_value, yaml_mistake
from flows.study.measures import Better, Measure, measure_of
from infra.errors import UserError, first_problem
from infra.json_objects import JsonObject
from infra.section import Section

__all__ = [
    "Arm",
    "Budget",
    "Contrast",
    "OverBase",
    "Study",
    "Trial",
    "budgets",
    "contrast",
    "half_width",
    "laid_over",
    "load_study",
    "read_study",
    "recipe_with",
    "study_values",
    "trials",
]

STUDIES = Path(__file__).parent / "studies"
_NAMES = stage_names()
AFTER_PRETRAINING = tuple(name for name in _NAMES[_NAMES.index("pretrain") + 1 :] if name in Recipe.model_fields)

S = TypeVar("S", bound="OverBase")

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
    """That the base model reads, in one stage or two."""


class OverBase(Section):
    """Recipes that all begin with one."""

    base: str = "sample"
    """Recipe that all arms start from: a preset or a YAML file."""
    settings: Arm = Field(default_factory=dict)
    """Laid over the base in every arm."""


class Study(OverBase):
    """What is compared with what, and how often."""

    name: str = Field("study", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the study and its runs."""
    description: str = ""
    """The question, in one line."""
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
    measures: tuple[str, ...] = Field(("loss",), min_length=1)
    """What the arms are compared by, the one that decides first: ``loss`` (held-out, of pretraining), ``loss/STAGE``,
    ``accuracy`` (of the last model on the held-out problems), ``accuracy/TASK`` (on those of one kind)."""
    pass_marks: tuple[str, ...] = ()
    """What was asked for, written down before the run: shown on the page."""

    @property
    def reference(self) -> str:
        """The arm that the others are compared with."""
        return self.baseline or next(iter(self.arms))

    @property
    def measured(self) -> list[Measure]:
        """The measures, as they are written."""
        return [measure_of(name) for name in self.measures]

    @model_validator(mode="after")
    def _measures_known(self) -> Self:
        if len(set(self.measured)) < len(self.measures):
            raise ValueError("measures: one of them stands there twice")
        return self

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
    """One measure of an arm against the baseline's, seed by seed."""

    arm: str
    values: tuple[float, ...]
    """By seed."""
    difference: float
    """Mean over the seeds of the arm's value less the baseline's."""
    half_width: float
    """Of the 95 % interval of that mean (Student's t over paired seeds); infinite with one seed."""
    wins: int
    """Seeds in which the arm is better."""
    better: Better = Better.LOWER
    """Which way is better."""

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
        is_better = (self.difference < 0) == (self.better is Better.LOWER)
        return "better than the baseline" if is_better else "worse than the baseline"


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
            others = f"there are {', '.join(names)}, or give a .yaml file"
            near = near_file(Path(f"{source}.yaml"), others, names)
            raise UserError(f"{source}: no such study; {near}")
    try:
        values = read_file(path)
    except OSError as error:
        remedy = near_file(path, "check the path")
        raise UserError(f"{path}: cannot read the study ({error.strerror}); {remedy}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the study as UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {yaml_mistake(error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: a study is a mapping of keys")
    return path, {"name": path.stem} | values


def laid_over(study: S, settings: Sequence[str]) -> S:
    """`study`, a ladder as well, with ``section.key=value`` settings laid over those of all arms.

    Raises:
        UserError: one is not written so.
    """
    more: JsonObject = {}
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        try:
            more[key] = read_value(text)
        except (yaml.YAMLError, RecursionError, ValueError):
            equals = ""
        if not equals or not key:
            raise UserError(f"--set {setting}: write it as section.key=value, the value in YAML")
    own = {key: value for key, value in study.settings.items() if key not in more}
    return study.model_copy(update={"settings": own | more})


def trials(study: Study) -> list[Trial]:
    """Every arm with every seed, seed by seed, so that a study cut short has whole comparisons.

    Raises:
        UserError: a key that no recipe has, a measure that no run will have, or arms that do not cost alike.
    """
    found = [_trial(study, name, seed) for seed in study.seeds for name in study.arms]
    for trial in found[: len(study.arms)]:
        for measure in study.measured:
            measure.check(trial.recipe)
    _check_budgets(study, budgets(found))
    return found


def _trial(study: Study, name: str, seed: int) -> Trial:
    arm = study.arms[name]
    left_out = tuple(f"{key}." for key, value in arm.items() if value is None)
    common = {key: value for key, value in study.settings.items() if not key.startswith(left_out)}
    settings = common | arm | {"name": f"{study.name}-{name}-{seed}"}
    if study.only_pretrain:
        settings |= dict.fromkeys(AFTER_PRETRAINING)
    where = f"study {study.name}, arm {name}"
    drawn = _drawn(recipe_with(study.base, settings, where), seed)
    return Trial(name, seed, recipe_with(study.base, settings | drawn, where))


def _drawn(recipe: Recipe, seed: int) -> Arm:
    """The seed for all trainings, each of which draws by one of its own, and the same held-out rows whatever it is."""
    trainings = [name for name in CHECKPOINTS if hasattr(getattr(recipe, name), "seed")]  # a model that exists has none
    drawn: Arm = {f"{name}.seed": seed for name in trainings}
    if recipe.pretrain and recipe.pretrain.validation_seed is None:
        drawn["pretrain.validation_seed"] = 0
    return drawn


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
                Budget.TOKENS: float(plan.tokens + _continued_tokens(trial.recipe)),
            }
    return costs


def _continued_tokens(recipe: Recipe) -> int:
    """That the base model reads after its pretraining."""
    more = recipe.continued
    return more.steps * more.batch_size * recipe.shards.sequence_length if more else 0


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


def contrast(study: Study, values: Mapping[str, Mapping[int, float]], better: Better = Better.LOWER) -> list[Contrast]:
    """Every arm against the baseline, in the order of the study; `values` by arm and seed, which all arms share."""
    reference = values[study.reference]
    found = []
    for arm in study.arms:
        own = tuple(values[arm][seed] for seed in sorted(reference))
        paired = [values[arm][seed] - reference[seed] for seed in sorted(reference)]
        wins = sum(each < 0 if better is Better.LOWER else each > 0 for each in paired)
        found.append(Contrast(arm, own, statistics.fmean(paired), half_width(paired), wins, better))
    return found


def half_width(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean of `values` by Student's t; infinite with one value."""
    if len(values) < 2:
        return math.inf
    from scipy.stats import t  # takes half a second to import

    factor: float = t.ppf(0.975, len(values) - 1)
    return factor * statistics.stdev(values) / math.sqrt(len(values))
