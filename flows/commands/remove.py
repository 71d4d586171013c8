"""The command remove: documents that somebody asked to have left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.commands.app import RootOption, app, console, find_record, settings_for, table_of
from flows.recipe.removals import Request, requests
from infra.errors import UserError
from infra.units import count, plural, printable

if TYPE_CHECKING:
    from infra.settings import Settings

SHOWN = 10
"""Documents and artifacts shown of a request."""


@app.command()
def remove(
    url: Annotated[
        list[str] | None, typer.Option("--url", help="An address; all that begin so, where it ends in *.")
    ] = None,
    id_: Annotated[list[str] | None, typer.Option("--id", help="The id of a document, as trace shows it.")] = None,
    file: Annotated[list[str] | None, typer.Option("--file", help="A file with the text, in UTF-8.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the record.")] = "",
    list_: Annotated[bool, typer.Option("--list", help="Show the record of requests.")] = False,
    undo: Annotated[str, typer.Option("--undo", help="Take the request with this id back.")] = "",
    check: Annotated[
        str, typer.Option("--check", help="Look for removed documents in the shards of this run.", metavar="RUN")
    ] = "",
    root: RootOption = None,
) -> None:
    """Ask for documents to be left out of training: the next run leaves them out, and their copies in any source.

    Nothing is run or deleted: `plan` shows what a request reached and what a rebuild takes, `gc --removed` what of the
    store holds the text.
    """
    settings = settings_for(root)
    named = {"url": url or [], "id": id_ or [], "file": file or []}
    if sum((any(named.values()), list_, bool(undo), bool(check))) != 1:
        raise UserError("remove: name documents with --url, --id or --file; or one of --list, --undo and --check")
    if list_:
        _show_record(settings)
    elif undo:
        _take_back(settings, undo, reason)
    elif check:
        _check(settings, check)
    else:
        _request(settings, named, reason)


def _request(settings: Settings, named: dict[str, list[str]], reason: str) -> None:
    from flows.registry.removal import request_removal
    from pipeline.removal.asks import Kind

    for kind, values in named.items():
        for value in values:
            _show(request_removal(settings, Kind(kind), value, reason))
    console.print("\nThe next run of any recipe on this store leaves them out:  deepmill plan RECIPE")


def _show(request: Request) -> None:
    console.print(f"[bold]{request.id}[/]  {request.kind} {escape(printable(request.value))}", soft_wrap=True)
    if not request.found:
        console.print("[dim]in no document of the store: it will be left out wherever it comes from[/]")
    table = table_of("document", "source", "address", "characters", "by", right=("characters",))
    for each in request.found[:SHOWN]:
        by = each.how if each.how != "copy" else f"copy, {each.overlap:.0%}"
        table.add_row(escape(each.id), escape(each.source), escape(each.url), count(each.characters), by)
    if request.found:
        console.print(table)
    if len(request.found) > SHOWN:
        console.print(f"[dim]and {len(request.found) - SHOWN} more[/]")
    for line in request.reached_lines():
        console.print(f"[dim]{escape(line)}[/]", soft_wrap=True)


def _show_record(settings: Settings) -> None:
    from infra.open_store import open_store

    every = list(requests(open_store(settings, writes=False)))
    back = {each.takes_back: each for each in every}
    table = table_of("request", "by", "what", "documents", "why", "", right=("documents",))
    for each in every:
        if not each.takes_back:
            taken = back.get(each.id)
            state = f"taken back {taken.at[:10]} by {taken.by}" if taken else ""
            what = f"{each.kind} {printable(each.value)}"
            documents = str(len({found.id for found in each.found}))
            table.add_row(*map(escape, (each.id, each.by, what, documents, printable(each.why), state)))
    console.print(table if table.row_count else "No request for removal in this store.")


def _take_back(settings: Settings, name: str, reason: str) -> None:
    from flows.registry.removal import take_back

    taken = take_back(settings, name, reason)
    console.print(f"{taken.takes_back} is taken back: the next run has its documents again", soft_wrap=True)


def _check(settings: Settings, run_id: str) -> None:
    from flows.registry.removal_audit import audit_removals, write_audit
    from infra.open_store import open_store

    store = open_store(settings)
    audit = audit_removals(store, find_record(store, run_id))
    console.print(audit.told, soft_wrap=True)
    for each in audit.requests:
        state = f"{plural(each.left_out, 'document')} left out" if each.heeded else "[yellow]made after it was read[/]"
        console.print(f"{each.id}  {each.kind} {escape(printable(each.value))}: {state}", soft_wrap=True)
    for found in audit.still_there:
        told = f"{found.id} ({found.source}): {found.how}, {found.overlap:.0%}"
        console.print(f"[red]still there[/] {escape(told)}", soft_wrap=True)
    console.print(f"[dim]{write_audit(store, audit)}[/]", soft_wrap=True)
    if audit.still_there:
        raise typer.Exit(1)
