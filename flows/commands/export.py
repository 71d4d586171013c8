"""The command export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.app import RootOption, app, console, settings_for
from infra.errors import UserError


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="MODEL@ALIAS or MODEL/VERSION.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one of an earlier export.")],
    browser: Annotated[
        bool, typer.Option("--browser", help="As a page that runs the model in the visitor's browser, offline too.")
    ] = False,
    root: RootOption = None,
) -> None:
    """Write a registered model out of the registry: with --browser a folder for any web server, or a USB stick."""
    from flows.browser.export import export_for_browser
    from infra.units import size

    if not browser:
        raise UserError("export: say as what with --browser; files of other formats are in the run's artifact export")
    done = export_for_browser(settings_for(root), model, folder)
    console.print(f"[bold]{done.label}[/] in {done.folder}, {size(done.bytes)}", soft_wrap=True)
    console.print(f"[dim]cd {done.folder} && python3 -m http.server 8000 --bind 127.0.0.1[/]", soft_wrap=True)
