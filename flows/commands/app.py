"""What every command shares: the Typer app, the console, common options and the run that a name means."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

from flows.run.record import find_record
from infra.settings import Settings

__all__ = [
    "FromOption",
    "RecipeArgument",
    "RootOption",
    "RunArgument",
    "SetOption",
    "app",
    "console",
    "find_record",
    "settings_for",
]

app = typer.Typer(
    help="Raw text in; a promoted, quantized, reasoning MoE model out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)

RecipeArgument = Annotated[str, typer.Argument(help="Name of a preset, or a YAML file.")]
RunArgument = Annotated[str, typer.Argument(help="A run, or the beginning of its name.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a recipe value: section.key=value.", metavar="KEY=VALUE")
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
