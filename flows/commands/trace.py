"""The command trace."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.commands.app import RootOption, app, console, settings_for, table_of
from infra.errors import UserError
from infra.settings import Settings
from infra.units import count, plural, printable

if TYPE_CHECKING:
    from pipeline.index.spans import Span


@app.command()
def trace(
    model: Annotated[
        str, typer.Argument(help="MODEL@ALIAS, MODEL/VERSION, or a run; with --text, when left out, the latest index.")
    ] = "",
    step: Annotated[int, typer.Option("--step", "-n", min=0, help="Of its pretraining, from 0.")] = 0,
    text: Annotated[str | None, typer.Option("--text", "-t", help="A text to look for; - reads it.")] = None,
    document: Annotated[
        str | None, typer.Option("--document", help="The id of one: which steps of each training read it.")
    ] = None,
    min_words: Annotated[int, typer.Option(min=1, help="Fewest words of a span of the text.")] = 5,
    documents: Annotated[int, typer.Option(min=1, max=100, help="Most documents shown of a span.")] = 5,
    spans: Annotated[int, typer.Option(min=1, help="Most spans shown, the longest.")] = 10,
    root: RootOption = None,
) -> None:
    """Which documents, from which addresses, a training step learned from; which steps read a document; or in which
    documents a text stands.

    `--text` wants a recipe with the stage `index`. `--document` knows pretraining, continued pretraining, and the text
    that fine-tuning goes on reading; a step of reinforcement whose answers taught little may have read less.
    """
    settings = settings_for(root)
    if text is not None:
        _of_text(settings, model, sys.stdin.read() if text == "-" else text, min_words, documents, spans)
    elif model and document is not None:
        _of_document(settings, model, document)
    elif model:
        _of_step(settings, model, step)
    else:
        raise UserError("trace: name a model or a run, and a --step of its pretraining, a --document, or a --text")


def _of_step(settings: Settings, model: str, step: int) -> None:
    from flows.registry.trace import trace as find

    found = find(settings, model, step)
    console.print(
        f"[dim]pretrain {found.identity}, step {found.step} of {found.steps}, after {found.epochs:.3f} epochs[/]\n"
    )
    table = table_of("row", "document", "source", "address", right=("row",))
    for document in found.documents:
        table.add_row(*(escape(str(document[key])) for key in ("row", "id", "source", "url")))
    console.print(table)


def _of_document(settings: Settings, model: str, document: str) -> None:
    from flows.registry.trace import readings

    named = None
    for found in readings(settings, model, document):
        if named != found.document:
            named = found.document
            console.print(
                f"[bold]{escape(named['id'])}[/], {escape(named['source'])} {escape(named['url'])}", soft_wrap=True
            )
        if not found.rows:
            told = "in no row of training: held out, or left over at the end of its source"
        elif not found.read_in:
            told = f"in {plural(found.rows, 'row')}, which no step of {found.steps} read"
        else:
            told = (
                f"read in {plural(len(found.read_in), 'step')} of {found.steps}: {', '.join(map(str, found.read_in))}"
            )
        console.print(f"[dim]{found.stage} {found.identity},[/] {told}", soft_wrap=True)


def _of_text(settings: Settings, model: str, text: str, min_words: int, documents: int, most: int) -> None:
    from flows.registry.sources import text_sources

    where = text_sources(settings, model)
    found = where.sources.find(text, min_words=min_words, documents=documents)
    longest = sorted(found, key=lambda span: (-span.words, span.begin))[:most]
    console.print(f"[dim]index {where.identity}, {count(where.tokens)} tokens[/]")
    if not found:
        console.print(f"No {plural(min_words, 'word')} in a row of this text stand in the training tokens.")
    _print_spans(longest)
    if left := len(found) - len(longest):
        console.print(f"\n[dim]and {plural(left, 'span')} more; --spans shows them[/]")


def _print_spans(spans: Sequence[Span]) -> None:
    for span in spans:
        told = f"{plural(span.words, 'word')}, in {plural(span.places, 'place')}"
        console.print(f"\n[bold]{escape(' '.join(printable(span.text).split()))}[/]\n[dim]{told}[/]", soft_wrap=True)
        table = table_of("document", "source", "licence", "address")
        for document in span.documents:
            licence = document["licence"] or "not stated"
            table.add_row(*map(escape, (document["id"], document["source"], licence, document["url"])))
        console.print(table)
