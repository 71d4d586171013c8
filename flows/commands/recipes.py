"""Commands about recipes themselves: what a key means, and the schema that editors complete by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flows.commands.app import app, console


@app.command()
def explain(
    key: Annotated[str, typer.Argument(help="A key or a section, as grpo.kl_weight; all sections when left out.")] = "",
) -> None:
    """What a key of the recipe does: help, type, default, presets that set it, the code that reads it."""
    from flows.recipe.explain import key_lines
    from flows.recipe.keys import find_key, sections_of
    from flows.recipe.recipe import Recipe

    if not key:
        _list(Recipe, "")
        return
    found = find_key(key)
    console.print(Text(found.path, style="bold"))
    for heading, text in key_lines(found):
        if heading != "keys":
            console.print(Padding(Text(f"{heading}: {text}" if heading else text), (0, 0, 0, 2)))
    for section in sections_of(found):
        kind = section.model_fields.get("kind")
        console.print(Text(f"\n  kind: {kind.default}" if kind and kind.default else "", style="dim"))
        _list(section, f"{found.path}.")


def _list(section: type[BaseModel], prefix: str) -> None:
    """The keys of a section with their defaults and the first sentence of their help."""
    from flows.recipe.explain import shown_default
    from flows.recipe.keys import Key

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column("key", no_wrap=True)
    table.add_column("default", style="dim", max_width=24, no_wrap=True, overflow="ellipsis")
    table.add_column("help")
    for name, field in section.model_fields.items():
        key = Key(f"{prefix}{name}", section, field)
        table.add_row(Text(key.path), Text(shown_default(key)), Text(key.help.partition(". ")[0].rstrip(".")))
    console.print(table)


@app.command()
def schema(
    to: Annotated[Path | None, typer.Option("--to", help="Where to write it; printed when left out.")] = None,
) -> None:
    """The recipe's JSON Schema: editors complete and check recipes by it."""
    from flows.recipe.recipe import Recipe

    text = json.dumps(Recipe.model_json_schema(), indent=1, ensure_ascii=False)
    if to is None:
        print(text)
        return
    to.write_text(text + "\n", encoding="utf-8")
    console.print(
        f"{to}; the first line of a recipe names it: # yaml-language-server: $schema={to.name}", soft_wrap=True
    )
