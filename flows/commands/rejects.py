"""The command `rejects`: what the corpus stages of a run rejected, and what they cut out of documents that stayed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.commands.app import RootOption, RunArgument, app, console, find_record, settings_for, table_of
from infra.errors import UserError
from infra.units import count, percent, printable, shorten

if TYPE_CHECKING:
    from pathlib import Path

    from infra.store import Store
    from pipeline.tasks.ledger import DocumentMetrics

    Found = tuple[DocumentMetrics, Path]

LINES, WIDTH = 12, 200
"""Lines shown of a document, and characters of a line."""


@app.command()
def rejects(
    run_id: RunArgument = "",
    rule: Annotated[str | None, typer.Option("--rule", help="Show text, by a rule or how it begins.")] = None,
    source: Annotated[str, typer.Option("--source", help="Of this source alone.")] = "",
    stage: Annotated[str, typer.Option("--stage", help="Of this stage alone.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Documents shown.")] = 20,
    root: RootOption = None,
) -> None:
    """What went, by which rule: a table of all rules, or with --rule the text, cut lines as well as documents."""
    from infra.open_store import open_store

    store = open_store(settings_for(root), writes=False)
    record = find_record(store, run_id)
    found = dict(_artifacts(store, {name: each.identity for name, each in record.stages.items()}, stage))
    if not found:
        raise UserError(f"{record.run_id}: no {stage or 'corpus'} stage of it has accounts; see deepmill status")
    known = {name for metrics, _ in found.values() for name in metrics.by_source}
    if source and source not in known:
        raise UserError(f"--source {source}: no such source; there are {', '.join(sorted(known))}")
    if rule is None:
        _show_rules(found, source)
    else:
        _show_text(found, rule, source, limit)


def _artifacts(store: Store, identities: dict[str, str], only: str) -> Iterator[tuple[str, Found]]:
    """Accounts and folder of each stage that has them, in order."""
    from flows.report.accounts import STAGES
    from pipeline.tasks.ledger import DocumentMetrics

    if only and only not in STAGES:
        raise UserError(f"--stage {only}: no stage with documents; there are {', '.join(STAGES)}")
    for name in STAGES:
        manifest = store.find(name, identities[name]) if identities.get(name) and only in ("", name) else None
        if manifest and (metrics := DocumentMetrics.read(manifest.metrics)).has_accounts:
            yield name, (metrics, store.path(name, identities[name]))


def _show_rules(found: dict[str, Found], source: str) -> None:
    """A row for each stage, source and rule, what took most first."""
    numbers = ("documents", "characters", "of the source")
    table = table_of("stage", "source", "rule", *numbers, right=numbers)
    for stage, (metrics, _) in found.items():
        for name, account in metrics.sources:
            if source not in ("", name):
                continue
            rows = [(rule, count(each.documents), each.characters) for rule, each in account.rejected.items()]
            rows += [(rule, f"[dim]{'cut' if n >= 0 else 'added'}[/]", n) for rule, n in account.cut.items()]
            for rule, documents, signed in sorted(rows, key=lambda row: (-row[2], row[0])):
                characters = abs(signed)  # a title that is set before its text adds some
                share = percent(characters / account.characters_in) if account.characters_in else ""
                table.add_row(stage, escape(name), escape(rule), documents, count(characters), share)
    console.print(table)
    console.print("\n--rule RULE shows the text; the beginning of a rule's name will do")


def _show_text(found: dict[str, Found], rule: str, source: str, limit: int) -> None:
    from pipeline.tasks.rules import says
    from pipeline.tasks.set_aside import KINDS, set_aside

    shown = 0
    for stage, (_, folder) in found.items():
        for kind in KINDS:
            for document in islice(set_aside(folder, kind, rule, source), limit - shown):
                shown += 1
                what = "cut out of" if kind == "cuts" else "rejected"
                by = document.metadata["rule"]
                reason = f": {meaning}" if (meaning := says(stage, by)) else ""
                head = f"[bold]{escape(document.id)}[/] [dim]{what} by {stage}, {escape(by + reason)}[/]"
                console.print(head, soft_wrap=True)
                _show_lines(document.text or str(document.metadata.get("failure") or document.metadata["url"] or ""))
    if not shown:
        rules = {each for metrics, _ in found.values() for account in metrics.by_source.values()
                 for each in (*account.rejected, *account.cut)}  # fmt: skip
        hit = sorted(each for each in rules if each.startswith(rule))
        if hit:
            console.print(f"{', '.join(map(escape, hit))}: counted, but its text is not kept")
            return
        raise UserError(f"--rule {rule}: nothing went by it; the rules are {', '.join(sorted(rules)) or 'none'}")
    if shown == limit:
        console.print(f"\n[dim]the first {limit}; --limit shows more[/]")


def _show_lines(text: str) -> None:
    lines = printable(text).splitlines() or [""]
    for line in lines[:LINES]:
        console.print(f"  {shorten(line, WIDTH)}", markup=False, soft_wrap=True)
    if len(lines) > LINES:
        console.print(f"  [dim]and {len(lines) - LINES} lines more[/]")
