"""Commands about registered models: models, promote, rollback, chat."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from flows.commands.app import RootOption, app, console, settings_of_registry, table_of


@app.command()
def models(root: RootOption = None) -> None:
    """Registered models, their versions, aliases and numbers."""
    from flows.registry.facts import facts_in
    from flows.registry.file_gates import REMOVAL
    from infra.tracking import registry_client
    from infra.units import printable, size

    warned = []
    client = registry_client(settings_of_registry(root))
    columns = ("model", "version", "alias", "accuracy", "precision", "size")
    table = table_of(*columns, right=("version", "accuracy", "size"))
    for registered in client.search_registered_models():
        versions = client.search_model_versions(f"name = '{registered.name}'")
        for version in sorted(versions, key=lambda each: -int(each.version)):
            facts = facts_in(version.tags, f"{registered.name} version {version.version}")
            asked = sorted(text for key, text in version.tags.items() if key.startswith(REMOVAL))
            if asked:
                told = f"learned from documents that were asked to be removed: {', '.join(asked)}"
                warned.append(f"{registered.name} version {version.version} {told}")
            aliases = [alias for alias, number in registered.aliases.items() if str(number) == str(version.version)]
            table.add_row(
                registered.name,
                str(version.version),
                ", ".join(sorted(aliases)),
                f"{facts.accuracy:.1%}" if facts else "",
                facts.precision if facts else "",
                size(facts.bytes) if facts and facts.bytes is not None else "",
            )
    console.print(table if table.row_count else "No model is registered yet: deepmill run sample")
    for line in warned:
        console.print(f"[yellow]{escape(printable(line))}[/]", soft_wrap=True)


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    version: Annotated[str, typer.Argument(help="Its version.")],
    force: Annotated[bool, typer.Option("--force", help="Against the gates; the tags record it.")] = False,
    recipe: Annotated[
        str, typer.Option("--recipe", help="A recipe whose gates judge, in place of those the version carries.")
    ] = "",
    root: RootOption = None,
) -> None:
    """Judge a version by the gates it was registered with, and make it the champion if they pass."""
    from flows.recipe.recipe import load_recipe
    from flows.registry.aliases import own_gates
    from flows.registry.release import promote_by_hand
    from infra.tracking import registry_client

    settings = settings_of_registry(root)
    config = load_recipe(recipe).promote if recipe else own_gates(registry_client(settings), model, version)
    for gate in promote_by_hand(settings, model, version, config, force=force):
        mark = "[green]✓[/]" if gate.passed else "[red]✗[/]"
        console.print(f"{mark} {gate.gate:<13} {gate.value:.4g}  [dim]{gate.text} {gate.limit:.4g}[/]")
    console.print(f"{model} version {version} is the {config.alias}")


@app.command()
def rollback(
    model: Annotated[str, typer.Argument(help="Name of a registered model.")], root: RootOption = None
) -> None:
    """Make the version before the champion the champion again."""
    from flows.registry.release import rollback as move_back

    console.print(f"{model} version {move_back(settings_of_registry(root), model)} is the champion again")


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="MODEL@ALIAS or MODEL/VERSION.")] = "deepmill-sample@champion",
    question: Annotated[str | None, typer.Option("--question", "-q", help="Ask one question and leave.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.0,
    root: RootOption = None,
) -> None:
    """Talk to a registered model; its reasoning is shown apart from the answer."""
    from flows.serving.chat import converse

    converse(settings_of_registry(root), console, model, question, temperature)
