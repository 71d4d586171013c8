"""The command study: recipes side by side, and the page that compares them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from flows.commands.app import RootOption, app, console, keys_here, settings_for
from flows.commands.watch import watched_flow

if TYPE_CHECKING:
    from flows.recipe.recipe import Recipe
    from flows.study.ladder import Ladder
    from flows.study.study import Study
    from infra.settings import Settings

PAPERS = "papers"
"""In a study's place: the claims of the papers."""

StudySetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Lay a recipe value over every arm that does not set it: section.key=value.",
        metavar="KEY=VALUE",
        autocompletion=keys_here,
    ),
]


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Name of a study or ladder, a YAML file, or papers: the claims.")],
    set_: StudySetOption = None,
    root: RootOption = None,
    to: Annotated[Path | None, typer.Option("--to", help="Where to put a copy of the page.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show the arms and what they cost.")] = False,
) -> None:
    """Train every arm of a study with every seed and compare them on one page; what is there stays."""
    from flows.study.ladder import Ladder, is_ladder
    from flows.study.study import Study, laid_over, read_study
    from infra.open_store import open_store

    settings = settings_for(root)
    page: Path | None = None
    if name == PAPERS:
        page = _papers(Path(open_store(settings).local) / "studies", to)
    elif is_ladder(name):
        ladder = laid_over(read_study(name, Ladder), set_ or ())
        recipe = _show_ladder(ladder)
        page = None if plan else _run_ladder(ladder, recipe, settings)
    else:
        config = laid_over(read_study(name, Study), set_ or ())
        recipe = _show_study(config)
        page = None if plan else _run_study(config, recipe, settings)
    if page is None:
        return
    if to is not None and name != PAPERS:
        shutil.copyfile(page, to)
    console.print(f"\n{to or page}", soft_wrap=True)


def _ready(recipe: Recipe, settings: Settings) -> None:
    """What must be there before the first trial: a store that can be written, and text."""
    from flows.recipe.sample_text import gather_sample_text
    from infra.open_store import open_store

    open_store(settings)
    gather_sample_text(recipe, lambda line: console.print(f"[dim]{line}[/]"))


def _show_study(config: Study) -> Recipe:
    """The arms, what they cost, and how strong their branches begin; returns a trial's recipe."""
    from flows.study.branch import branch_ratios, branch_warning
    from flows.study.cost import cost_line, training_flops
    from flows.study.study import Budget, budgets, trials
    from infra.units import count

    found = trials(config)
    costs = budgets(found)
    first = {trial.arm: trial.recipe for trial in found if trial.seed == config.seeds[0]}
    ratios = branch_ratios(first, config.reference)
    console.print(f"[bold]{config.name}[/]  {config.description}")
    table = Table("arm", *Budget, "branch", box=None, pad_edge=False, header_style="dim")
    for arm, cost in costs.items():
        branch = f"{ratios[arm]:.2f} ×" if arm in ratios else ""
        table.add_row(arm, *(count(cost[budget]) for budget in Budget), branch)
    console.print(table)
    if warning := branch_warning(ratios):
        console.print(f"[yellow]{warning}[/]")
    console.print(f"[dim]{len(found)} runs: {len(config.arms)} arms, {len(config.seeds)} seeds[/]")
    console.print(f"[dim]{cost_line(sum(training_flops(trial.recipe) for trial in found))}[/]\n", soft_wrap=True)
    return found[0].recipe


def _run_study(config: Study, recipe: Recipe, settings: Settings) -> Path:
    _ready(recipe, settings)
    with watched_flow(_study_flow) as study_flow:
        page = Path(study_flow(config))
    arms = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["arms"]
    for measure in config.measured:
        console.print(f"[bold]{measure.label}[/]")
        for arm in arms:
            found = arm["measures"][measure.name]
            said = f"{measure.difference(found['difference'], found['half_width_95'])}   {found['verdict']}"
            if arm["arm"] == config.reference:
                said = "baseline"
            console.print(f"  {arm['arm']:<16} {measure.listed(found['values'])}   {said}", soft_wrap=True)
    return page


def _show_ladder(config: Ladder) -> Recipe:
    """The budgets, and what every arm is on each of them; returns a trial's recipe."""
    from flows.recipe.training_plan import plan_training
    from flows.study.cost import cost_line, ladder_flops
    from flows.study.ladder import LadderTrial, recipe_of, wanted
    from infra.units import count

    console.print(f"[bold]{config.name}[/]  {config.description}")
    heads = ("budget", "arm", "parameters", "active", "tokens", "steps")
    table = Table(*heads, box=None, pad_edge=False, header_style="dim")
    for rung, budget in enumerate(config.rungs):
        for arm in config.arms:
            trial = LadderTrial(arm, rung, config.strengths[0], config.rates[0], config.seeds[0])
            recipe = recipe_of(config, trial)
            plan = plan_training(recipe)
            assert recipe.pretrain is not None
            sizes = (count(plan.parameters), count(plan.active), count(plan.tokens))
            table.add_row(f"{budget.flops:.0e}", arm, *sizes, str(recipe.pretrain.steps))
    console.print(table)
    climbs = len(config.arms) * len(config.rungs) * len(config.seeds)
    swept = len(wanted(config, {}))
    console.print(f"[dim]at least {swept} runs to sweep, {climbs} to climb; runs that are there stay[/]")
    console.print(f"[dim]{cost_line(ladder_flops(config))}[/]\n", soft_wrap=True)
    return recipe


def _run_ladder(config: Ladder, recipe: Recipe, settings: Settings) -> Path:
    _ready(recipe, settings)
    with watched_flow(_ladder_flow) as ladder_flow:
        page = Path(ladder_flow(config))
    numbers = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    for arm in numbers["arms"]:
        saved = arm["compute"]
        times = f"{saved['value']:.2f} × compute, {arm['time']:.2f} × time   " if saved else ""
        console.print(f"{arm['arm']:<16} {times}{arm['verdict']}")
    return page


def _papers(studies: Path, to: Path | None) -> Path:
    """The page of the papers' claims, from what has been measured in this store and by the project; the one at `to`
    links to the studies' pages where they are."""
    from flows.study.claims import judge, load_claims, write_claims

    claims = load_claims()
    judged = judge(claims, studies)
    for one in judged:
        console.print(f"{one.verdict:<16} {one.claim.claim}", soft_wrap=True)
    if to is not None:
        write_claims(judged, to, f"{studies.resolve().as_uri()}/")
    return write_claims(judged, studies / f"{PAPERS}.html")


def _ladder_flow() -> Any:
    from flows.study.flow import ladder

    return ladder


def _study_flow() -> Any:
    from flows.study.flow import study as study_flow

    return study_flow
