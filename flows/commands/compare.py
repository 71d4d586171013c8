"""The command compare: two versions side by side, in numbers and in answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.commands.app import RootOption, app, console, settings_of_registry, table_of

if TYPE_CHECKING:
    from flows.registry.facts import VersionFacts

QUESTIONS = ("Calculate 4 + 8 + 4.", "Calculate 7 + 5 + 9.")


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="MODEL@ALIAS or MODEL/VERSION.")],
    second: Annotated[str, typer.Argument(help="Another of them.")],
    question: Annotated[
        list[str] | None, typer.Option("--question", "-q", help="Ask both this; may be given again.")
    ] = None,
    samples: Annotated[bool, typer.Option(help="Whether both are loaded and asked.")] = True,
    root: RootOption = None,
) -> None:
    """Two versions side by side: the numbers that gates look at, then answers to the same questions."""
    from flows.registry.aliases import facts_of
    from flows.registry.names import parse_name, resolve
    from infra.tracking import registry_client

    settings = settings_of_registry(root)
    client = registry_client(settings)
    names = [parse_name(text) for text in (first, second)]
    versions = [resolve(client, name) for name in names]
    facts = [facts_of(client, name.model, version) for name, version in zip(names, versions, strict=True)]
    labels = [f"{name.model}/{version}" for name, version in zip(names, versions, strict=True)]
    table = table_of("", *labels, "difference", right=(*labels, "difference"))
    for row in rows(*facts):
        table.add_row(*row)
    console.print(table)
    if samples:
        _ask(settings, labels, question or QUESTIONS)


def rows(first: VersionFacts, second: VersionFacts) -> list[tuple[str, str, str, str]]:
    """Name, both values and their difference, for every number that either has."""
    from infra.json_objects import flatten

    left, right = (flatten(facts.model_dump(exclude={"files"}, exclude_none=True)) for facts in (first, second))
    found = []
    for key in dict.fromkeys((*left, *right)):
        one, other = left.get(key), right.get(key)
        numbers = [value for value in (one, other) if isinstance(value, int | float)]
        difference = f"{numbers[1] - numbers[0]:+.4g}" if len(numbers) == 2 else ""
        found.append((key, _shown(one), _shown(other), difference))
    return found


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value if value is not None else "–")


def _ask(settings: Any, labels: list[str], questions: Any) -> None:
    import pandas as pd

    from flows.serving.chat import load_version

    answers = [
        load_version(settings, label)[0].predict(pd.DataFrame({"question": list(questions)})) for label in labels
    ]
    for number, asked in enumerate(questions):
        console.print(f"\n[bold cyan]{escape(asked)}[/]")
        for label, found in zip(labels, answers, strict=True):
            row = found.iloc[number]
            console.print(f"[bold]{label}[/]  {escape(row['answer'])}  [dim italic]{escape(row['reasoning'])}[/]")
