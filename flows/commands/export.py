"""The command export."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.app import RootOption, app, console, settings_of_registry
from infra.errors import UserError


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="MODEL@ALIAS or MODEL/VERSION.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one of an earlier export.")],
    browser: Annotated[
        bool, typer.Option("--browser", help="As a page that runs the model in the visitor's browser, offline too.")
    ] = False,
    show: Annotated[bool, typer.Option("--open", help="Serve it on this machine, and open it.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="For --open; 0 takes a free one.")] = 8000,
    root: RootOption = None,
) -> None:
    """Write a registered model out of the registry: with --browser as a folder for any web server, or a USB stick."""
    from flows.browser.export import export_for_browser
    from infra.units import size

    if not browser:
        raise UserError("export: say --browser; the other formats lie where the run's summary says, in STORE/export/")
    done = export_for_browser(settings_of_registry(root), model, folder)
    console.print(f"[bold]{done.label}[/] in {done.folder}, {size(done.bytes)}", soft_wrap=True)
    if show:
        _open(folder, port)
    else:
        console.print(f"[dim]python3 -m http.server {port} --bind 127.0.0.1 --directory {folder}[/]", soft_wrap=True)


def _open(folder: Path, port: int) -> None:
    """Serve until Ctrl-C."""
    import webbrowser

    from flows.browser.serve import folder_server

    with folder_server(folder, port) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        console.print(f"{address}  [dim]Ctrl-C ends it[/]", soft_wrap=True)
        webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
