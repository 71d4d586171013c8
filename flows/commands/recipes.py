"""Commands about recipes themselves: a new one for a folder, what a key means, the schema that editors complete by."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flows.commands.app import app, console, keys_here
from flows.recipe.stages import stage_names
from infra.units import size

if TYPE_CHECKING:
    from pipeline.inventory import Inventory


@app.command()
def explain(
    key: Annotated[
        str,
        typer.Argument(
            help="A key or a section, as grpo.kl_weight; all sections when left out.", autocompletion=keys_here
        ),
    ] = "",
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
    if to is None:
        print(_schema())
        return
    _write_schema(to)
    console.print(f"{to}; a recipe names it in its first line: # yaml-language-server: $schema={to}", soft_wrap=True)


def _schema() -> str:
    from flows.recipe.recipe import Recipe

    return json.dumps(Recipe.model_json_schema(), indent=1, ensure_ascii=False)


def _write_schema(path: Path) -> None:
    path.write_text(_schema() + "\n", encoding="utf-8")


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="Where your text, or a model, lies.")],
    to: Annotated[Path | None, typer.Option("--to", help="Recipe to write; FOLDER's name here when left out.")] = None,
) -> None:
    """Look at a folder, write a commented recipe for what is in it, and say what it would do. Runs nothing."""
    from flows.recipe.draft import draft
    from flows.recipe.recipe import load_recipe
    from infra.errors import UserError
    from pipeline.inventory import take_inventory

    name = "".join(letter if letter.isalnum() else "-" for letter in folder.resolve().name).strip("-").lower()
    path = to or Path(f"{name or 'recipe'}.yaml")
    if path.exists():
        raise UserError(f"{path}: there already; name another file with --to")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it, or name another file with --to")
    found = take_inventory(folder)
    _show_found(found)
    written = draft(found, path)
    path.write_text(written.text, encoding="utf-8")
    recipe = load_recipe(str(path))
    _write_schema(path.with_name("recipe.schema.json"))
    console.print(f"\n[bold]{escape(str(path))}[/] is written: {escape('; '.join(written.notes))}", soft_wrap=True)
    stages = [stage for stage in stage_names() if recipe.has(stage)]
    console.print(f"[dim]it would run {', '.join(stages)}[/]")
    quoted = shlex.quote(str(path))
    print(f"\nRead it, then:  deepmill plan {quoted}\n                deepmill run {quoted}")


def _show_found(found: Inventory) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column, justify in (("source", "left"), ("kind", "left"), ("files", "right"), ("size", "right"), ("", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, source in found.sources.items():
        languages = ", ".join(code for code, _ in source.languages.most_common(3))
        said = f"[red]not read:[/] {escape(source.trouble)}" if source.trouble else languages
        table.add_row(escape(name), source.kind, str(source.files), size(source.size), said)
    for kind, files in (("problems", found.problems), ("conversations", found.conversations)):
        for path in map(Path, files):
            table.add_row(escape(path.stem), kind, "1", size(path.stat().st_size), "")
    for model in found.models:
        table.add_row(escape(model.name), "model", "", "", "GGUF" if model.is_file() else "")
    console.print(table)
    if found.passed_over:
        listed = ", ".join(f"{number} {ending}" for ending, number in found.passed_over.most_common(6))
        console.print(f"[dim]passed over: {listed}[/]")
