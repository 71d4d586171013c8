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


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Name of a study, or a YAML file.")],
    root: RootOption = None,
    to: Annotated[Path | None, typer.Option("--to", help="Where to put a copy of the page.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show the arms and what they cost.")] = False,
) -> None:
    """Train every arm of a study with every seed and compare them on one page; what is there stays."""
    from flows.study.study import Budget, budgets, load_study, trials
    from infra.open_store import open_store
    from infra.units import count

    config = load_study(name)
    settings = settings_for(root)
    found = trials(config)
    costs = budgets(config, found)
    console.print(f"[bold]{config.name}[/]  {config.description}")
    table = Table("arm", *Budget, box=None, pad_edge=False, header_style="dim")
    for arm, cost in costs.items():
        table.add_row(arm, *(count(cost[budget]) for budget in Budget))
    console.print(table)
    console.print(f"[dim]{len(found)} runs: {len(config.arms)} arms, {len(config.seeds)} seeds[/]\n")
    if plan:
        return
    open_store(settings)  # an unwritable root is told before anything starts
    with watched_flow(_study_flow) as study_flow:
        page = Path(study_flow(config))
    for arm in json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["arms"]:
        half_width = f" ± {arm['half_width_95']:.4f}" if arm["half_width_95"] is not None else ""
        losses = ", ".join(f"{loss:.4f}" for loss in arm["losses"])
        console.print(f"{arm['arm']:<16} {losses}   {arm['difference']:+.4f}{half_width}")
    if to is not None:
        shutil.copyfile(page, to)
    console.print(f"\n{to or page}", soft_wrap=True)


def _study_flow() -> Any:
    from flows.study.flow import study as study_flow

    return study_flow
