"""The command trace."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.app import RootOption, app, console, settings_for


@app.command()
def trace(
    model: Annotated[str, typer.Argument(help="MODEL@ALIAS, MODEL/VERSION, or a run.")],
    step: Annotated[int, typer.Option("--step", "-n", min=0, help="Of its pretraining, from 0.")] = 0,
    root: RootOption = None,
) -> None:
    """Which documents, from which addresses, a training step learned from."""
    from flows.registry.trace import trace as find

    found = find(settings_for(root), model, step)
    console.print(
        f"[dim]pretrain {found.identity}, step {found.step} of {found.steps}, after {found.epochs:.3f} epochs[/]\n"
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("row", "document", "source", "address"):
        table.add_column(column, overflow="fold", justify="right" if column == "row" else "left")
    for document in found.documents:
        table.add_row(*(escape(str(document[key])) for key in ("row", "id", "source", "url")))
    console.print(table)
