"""The command study: recipes side by side, and the page that compares them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from flows.commands.app import RootOption, app, console, settings_for
from flows.commands.watch import watched_flow

PAPERS = "papers"
"""In a study's place: the claims of the papers."""


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Name of a study or ladder, a YAML file, or papers: the claims.")],
    root: RootOption = None,
    to: Annotated[Path | None, typer.Option("--to", help="Where to put a copy of the page.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show the arms and what they cost.")] = False,
) -> None:
    """Train every arm of a study with every seed and compare them on one page; what is there stays."""
    from flows.study.ladder import is_ladder
    from infra.open_store import open_store

    settings = settings_for(root)
    if name == PAPERS:
        page = _papers(Path(open_store(settings).local) / "studies")
    else:
        show, run = (_show_ladder, _run_ladder) if is_ladder(name) else (_show_study, _run_study)
        show(name)
        if plan:
            return
        open_store(settings)  # an unwritable root is told before anything starts
        page = run(name)
    if to is not None:
        shutil.copyfile(page, to)
    console.print(f"\n{to or page}", soft_wrap=True)


def _show_study(name: str) -> None:
    """The arms, what they cost, and how strong their branches begin."""
    from flows.study.branch import branch_ratios, branch_warning
    from flows.study.study import Budget, budgets, load_study, trials
    from infra.units import count

    config = load_study(name)
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
    console.print(f"[dim]{len(found)} runs: {len(config.arms)} arms, {len(config.seeds)} seeds[/]\n")


def _run_study(name: str) -> Path:
    from flows.study.study import load_study

    with watched_flow(_study_flow) as study_flow:
        page = Path(study_flow(load_study(name)))
    for arm in json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["arms"]:
        half_width = f" ± {arm['half_width_95']:.4f}" if arm["half_width_95"] is not None else ""
        losses = ", ".join(f"{loss:.4f}" for loss in arm["losses"])
        console.print(f"{arm['arm']:<16} {losses}   {arm['difference']:+.4f}{half_width}")
    return page


def _show_ladder(name: str) -> None:
    """The budgets, and what every arm is on each of them."""
    from flows.recipe.training_plan import plan_training
    from flows.study.ladder import Ladder, LadderTrial, recipe_of, wanted
    from flows.study.study import read_study
    from infra.units import count

    config = read_study(name, Ladder)
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
    console.print(f"[dim]at least {swept} runs to sweep, {climbs} to climb; runs that are there stay[/]\n")


def _run_ladder(name: str) -> Path:
    from flows.study.ladder import Ladder
    from flows.study.study import read_study

    with watched_flow(_ladder_flow) as ladder_flow:
        page = Path(ladder_flow(read_study(name, Ladder)))
    numbers = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    for arm in numbers["arms"]:
        saved = arm["compute"]
        times = f"{saved['value']:.2f} × compute, {arm['time']:.2f} × time   " if saved else ""
        console.print(f"{arm['arm']:<16} {times}{arm['verdict']}")
    return page


def _papers(studies: Path) -> Path:
    """The page of the papers' claims, from what has been measured in this store and by the project."""
    from flows.study.claims import judge, load_claims, write_claims

    claims = load_claims()
    judged = judge(claims, studies)
    for one in judged:
        console.print(f"{one.verdict:<16} {one.claim.claim}", soft_wrap=True)
    return write_claims(judged, studies / f"{PAPERS}.html")


def _ladder_flow() -> Any:
    from flows.study.flow import ladder

    return ladder


def _study_flow() -> Any:
    from flows.study.flow import study as study_flow

    return study_flow
