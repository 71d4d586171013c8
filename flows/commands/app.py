"""What every command shares: the Typer app, the console, common options and the run that a name means."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from urllib.request import getproxies

import typer
from rich.console import Console
from rich.table import Table

from flows.run.record import find_record
from infra.errors import UserError, first_line
from infra.settings import Settings, without_password

__all__ = [
    "FromOption",
    "RecipeArgument",
    "RootOption",
    "RunArgument",
    "SetOption",
    "app",
    "console",
    "find_record",
    "keys_here",
    "runs_here",
    "settings_for",
    "settings_of_registry",
    "table_of",
]

app = typer.Typer(
    help="Raw text in; a promoted, quantized, reasoning MoE model out.",
    epilog="Begin with deepmill run sample, or with deepmill new FOLDER for your own text.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"deepmill {version('deepmill')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    pass


def recipes_here(begun: str) -> list[str]:
    """What a shell completes a recipe to: presets, and recipes of this folder."""
    from flows.recipe.recipe import preset_names

    files = [str(path) for folder in (Path(), Path("recipes")) for path in sorted(folder.glob("*.yaml"))]
    return [name for name in (*preset_names(), *files) if name.startswith(begun)]


def keys_here(begun: str) -> list[str]:
    """What a shell completes a key of the recipe to, a level at a time."""
    from flows.recipe.keys import all_keys

    depth = begun.count(".")
    return list(
        dict.fromkeys(key.path for key in all_keys() if key.path.startswith(begun) and key.path.count(".") <= depth)
    )


def runs_here(begun: str) -> list[str]:
    """What a shell completes a run to: those of the store."""
    from flows.run.record import records
    from infra.open_store import open_store

    found = records(open_store(Settings(), writes=False))
    return [run_id for record in found if (run_id := record.run_id).startswith(begun)]


RecipeArgument = Annotated[str, typer.Argument(help="Name of a preset, or a YAML file.", autocompletion=recipes_here)]
RunArgument = Annotated[str, typer.Argument(help="A run, or the beginning of its name.", autocompletion=runs_here)]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override a recipe value: section.key=value.", metavar="KEY=VALUE", autocompletion=keys_here
    ),
]
RootOption = Annotated[
    str | None, typer.Option("--root", help="The artifact store: a folder or s3://bucket/prefix (DEEPMILL_ROOT).")
]
FromOption = Annotated[str | None, typer.Option("--from", help="Make this stage, and all after it, again.")]


def settings_for(root: str | None = None) -> Settings:
    """The settings, with the store of a command's ``--root``, and with the servers of that store if they are up."""
    from flows.operations.connection import connect

    if root:
        os.environ["DEEPMILL_ROOT"] = root  # stages and flows read the same settings
    connect(Settings())
    return Settings()


def settings_of_registry(root: str | None = None) -> Settings:
    """`settings_for`, for a command that can do nothing without MLflow: an address where nobody answers is told at
    once, where MLflow's client would try for minutes."""
    settings = settings_for(root)
    address = urlsplit(settings.tracking_uri)
    if address.scheme not in ("http", "https") or getproxies().get(address.scheme):
        return settings
    try:
        port = address.port or {"http": 80, "https": 443}[address.scheme]
        socket.create_connection((address.hostname or "", port), 5).close()
    except (OSError, ValueError) as error:  # refused, unknown, unreachable, silent; a port that is none
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(
            f"{without_password(settings.tracking_uri)}: MLflow does not answer ({reason}); "
            "check DEEPMILL_TRACKING_URI, or start it with deepmill up"
        ) from None
    return settings


def table_of(*columns: str, right: Collection[str] = (), whole: Collection[str] = ()) -> Table:
    """An empty table without rules, the columns in `right` to the right; what is too long for a cell is folded, but in
    those that stay `whole`."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(
            column, overflow="fold", no_wrap=column in whole, justify="right" if column in right else "left"
        )
    return table
