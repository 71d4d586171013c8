"""The command disclose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.app import RootOption, app, console, settings_for


@app.command()
def disclose(
    model: Annotated[
        str, typer.Argument(help="MODEL@ALIAS, MODEL/VERSION, or a run; the latest run when left out.")
    ] = "",
    to: Annotated[Path | None, typer.Option("--to", help="The folder to write into.")] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="A recipe whose disclosure and licences count, not those of the run's own.")
    ] = "",
    root: RootOption = None,
) -> None:
    """Write what the law asks to be said of training data: the EU's summary, California's, a datasheet, and JSON."""
    from flows.registry.disclose import disclose as write

    for path in write(settings_for(root), model, recipe, to):
        console.print(str(path), soft_wrap=True)
