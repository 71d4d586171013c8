"""Commands that look into a corpus: duplicates."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from flows.commands.app import RootOption, RunArgument, app, console, find_record, settings_for, table_of
from infra.errors import UserError


@app.command()
def duplicates(
    run_id: RunArgument = "",
    id_: Annotated[
        list[str] | None, typer.Option("--id", help="The cluster of this document, its copies in full.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Clusters shown, largest first.")] = 20,
    root: RootOption = None,
) -> None:
    """What was taken for a copy of what, how alike they are, and in what they differ."""
    from infra.open_store import open_store
    from pipeline.dedup.duplicates import changes, find_clusters, sizes

    store = open_store(settings_for(root), writes=False)
    record = find_record(store, run_id)
    identity = record.stages["dedup"].identity if "dedup" in record.stages else ""
    if not identity or store.find("dedup", identity) is None:
        raise UserError(f"{record.run_id}: it has no dedup artifact; see deepmill status")
    artifact = store.path("dedup", identity)
    found = sizes(artifact)
    if not found:
        console.print("No document has a copy.")
        return
    table = table_of("document", "source", "rule", "alike", "through", right=("alike",))
    for cluster in find_clusters(artifact, id_ or list(found)[:limit]):
        kept = cluster.kept
        table.add_row(f"[bold]{escape(kept.id)}[/]", escape(kept.metadata["source"]), "[green]stays[/]", "", "")
        for member in cluster.members if id_ else cluster.members[:5]:
            document = member.document
            source, through = escape(document.metadata["source"]), escape(member.through)
            table.add_row(f"  {escape(document.id)}", source, member.rule, f"{member.likeness:.0%}", through)
        if not id_ and len(cluster.members) > 5:
            table.add_row(f"  [dim]and {len(cluster.members) - 5} more: --id {escape(kept.id)}[/]")
        if id_:
            console.print(table)
            for member in cluster.members:
                console.print(f"\n[dim]{escape(member.document.id)} against {escape(kept.id)}:[/]")
                for line in changes(kept.text, member.document.text):
                    style = {"-": "red", "+": "green"}.get(line[0], "dim")
                    console.print(f"[{style}]{escape(line[:200])}[/]")
            return
    console.print(table)
    copies = sum(found.values())
    console.print(f"\n{copies} copies of {len(found)} documents went; --id shows one cluster in full")
