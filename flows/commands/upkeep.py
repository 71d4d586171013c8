"""Commands that look after what is there: diff, gc, overview."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.commands.app import RootOption, app, console, find_record, runs_here, settings_for, table_of
from infra.errors import UserError
from infra.units import size

if TYPE_CHECKING:
    from infra.store import Store

__all__: list[str] = []


@app.command()
def diff(
    first: Annotated[
        str,
        typer.Argument(
            help="A run, or the beginning of its name; the last two runs when left out.", autocompletion=runs_here
        ),
    ] = "",
    second: Annotated[str, typer.Argument(help="Another run; today's code, packages and files when left out.")] = "",
    root: RootOption = None,
) -> None:
    """Explain what changed between two runs: recipe, data, code, packages, machine, artifacts, metrics."""
    from flows.run.diff import compare_runs, differences_today
    from infra.open_store import open_store

    store = open_store(settings_for(root), writes=False)
    if not first:
        first, second = _last_two(store)
    before = find_record(store, first)
    if second:
        changes = list(compare_runs(store, before, find_record(store, second)))
    else:
        changes = list(differences_today(store, before))
    if not changes:
        console.print("nothing differs" + ("" if second else " from today's code, packages and files"))
        return
    table = table_of("", "what", before.run_id, second or "today")
    section = ""
    for change in changes:
        table.add_row(
            f"[bold]{change.section}[/]" if change.section != section else "",
            escape(change.key),
            escape(change.before),
            escape(change.after),
        )
        section = change.section
    console.print(table)


def _last_two(store: Store) -> tuple[str, str]:
    runs = store.runs()
    if len(runs) < 2:
        raise UserError(f"{store.address}: has fewer than two runs to compare; name one: deepmill diff RUN")
    return runs[-2], runs[-1]


@app.command()
def gc(
    root: RootOption = None,
    keep_runs: Annotated[int, typer.Option("--keep-runs", min=1, help="Keep what the latest runs need.")] = 20,
    keep_days: Annotated[float, typer.Option("--keep-days", min=0, help="Keep what is younger.")] = 14,
    removed: Annotated[
        bool, typer.Option("--removed", help="What holds text that was asked to be removed, whoever needs it.")
    ] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is shown.")] = False,
) -> None:
    """Show what no kept run and no registered model needs, or what holds removed text; with --delete, delete it."""
    from flows.operations.connection import connect
    from flows.operations.retention import apply_gc, plan_gc, plan_removed
    from infra.open_store import open_store
    from infra.settings import Settings

    settings = settings_for(root)
    connect(settings)
    store = open_store(settings, writes=delete)
    held = plan_removed(store)
    plan = held if removed else plan_gc(store, Settings(), keep_runs, keep_days)
    for item in plan.items:
        console.print(
            f"{item.name}  [dim]{size(item.bytes)}, made {item.made[:16].replace('T', ' ')}[/]", soft_wrap=True
        )
    if plan.parts:
        freed = size(sum(plan.parts.values()))
        why = "with the same files" if removed else f"taken by no run for {keep_days:g} days"
        console.print(f"{len(plan.parts)} kept parts  [dim]{freed}, {why}[/]")
    for reason, number in plan.kept.items():
        if number:
            console.print(f"[dim]{number} kept for {reason}[/]")
    if held.items and not removed:
        told = f"{len(held.items)} artifacts hold text that was asked to be removed: gc --removed shows them"
        console.print(f"[yellow]{told}[/]")
    if not plan.items and not plan.parts:
        console.print(f"nothing to delete among {plan.looked_at} artifacts")
    elif delete:
        console.print(f"deleted {len(plan.items)}, {size(apply_gc(store, plan))} freed")
    else:
        console.print(
            f"{len(plan.items)} of {plan.looked_at} could go, {size(plan.bytes)}: add --delete to delete them"
        )


@app.command()
def overview(root: RootOption = None) -> None:
    """Write the overview of the latest runs as one HTML page, as the servers show it."""
    from flows.operations.overview import write_overview
    from infra.open_store import open_store

    console.print(str(write_overview(open_store(settings_for(root)))), soft_wrap=True)
