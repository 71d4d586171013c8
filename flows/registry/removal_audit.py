"""What became of requests for removal in a run: what was asked, what was left out where, what its shards still hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flows.recipe.removals import ASK, active, heeded
from flows.run.record import RunRecord
from flows.run.run_view import Run
from infra.errors import UserError
from infra.facts import Facts
from infra.manifest import split_address
from infra.store import Store
from infra.units import plural
from pipeline.removal.asks import REMOVED, Ask, Removals
from pipeline.removal.search import search_shards
from pipeline.sections import ExtractConfig
from pipeline.tasks.documents import document_files, read_file
from pipeline.tasks.ledger import DocumentMetrics

if TYPE_CHECKING:
    from flows.run.session import Session

__all__ = ["RemovalAudit", "audit_removals", "audit_run", "write_audit"]

AUDIT = "audit.json"


class LeftOut(Facts):
    """A document that was left out, or should have been."""

    id: str
    source: str
    url: str = ""
    ask: str
    how: str
    overlap: float = 1.0


class AskedFor(Facts):
    """A request, and whether a run heeded it."""

    id: str
    at: str
    by: str
    why: str
    kind: str
    value: str
    ask: str
    heeded: bool
    """False where the documents were read before the request was made."""
    left_out: int


class RemovalAudit(Facts):
    """What was asked, what was left out where, and what a look into the token shards found after."""

    run_id: str
    extract: str
    shards: str
    """Artifacts, as ``stage/identity``."""
    overlap: float
    """Share of runs of five words from which on a document counts as a copy."""
    requests: list[AskedFor]
    documents: int
    characters: int
    """That were left out."""
    left_out: list[LeftOut]
    checked: int
    """Documents in the shards, each out of its tokens."""
    still_there: list[LeftOut]

    @property
    def told(self) -> str:
        """In one line."""
        done = sum(each.heeded for each in self.requests)
        where = f"{len(self.still_there)} of {self.checked} documents of the new shards are such, or copies"
        return (
            f"requests for removal: {done} of {len(self.requests)} heeded, "
            f"{plural(self.documents, 'document')} left out; "
            f"{where if self.still_there else f'none of them, nor a copy, in the {self.checked} of the shards'}"
        )


def audit_removals(store: Store, record: RunRecord) -> RemovalAudit:
    """Look for what was asked to be removed in the token shards of a run.

    Raises:
        UserError: the store has no extracted text, or no shards, of the run.
    """
    run = Run(record, store)
    extract, shards = (run.stage(name).manifest for name in ("extract", "shards"))
    if extract is None or shards is None:
        raise UserError(f"{record.run_id}: the store has not both its extract and its shards; see deepmill status")
    overlap = extract.config.get("removed_overlap", ExtractConfig().removed_overlap)
    made = active(store)
    asks = [(each.ask, Ask.model_validate(store.read_note(f"{ASK}{each.ask}"))) for each in made]
    left_out = list(_left_out(store.path(extract.stage, extract.identity)))
    folder, tokenizer = (store.path(*split_address(each)) for each in (shards.address, shards.inputs["tokenizer"]))
    checked, found = search_shards(folder, tokenizer, Removals(asks, overlap))
    amounts = [account.rejected[REMOVED] for account in DocumentMetrics.read(extract.metrics).by_source.values()
               if REMOVED in account.rejected]  # fmt: skip
    return RemovalAudit(
        run_id=record.run_id,
        extract=extract.address,
        shards=shards.address,
        overlap=overlap,
        requests=[
            AskedFor(
                **each.model_dump(include={"id", "at", "by", "why", "kind", "value", "ask"}),
                heeded=each.ask in heeded(extract),
                left_out=sum(gone.ask == each.ask for gone in left_out),
            )
            for each in made
        ],
        documents=sum(each.documents for each in amounts),
        characters=sum(each.characters for each in amounts),
        left_out=left_out,
        checked=checked,
        still_there=[
            LeftOut(
                id=document.id,
                source=document.metadata["source"],
                url=document.metadata["url"],
                ask=match.ask,
                how=match.how,
                overlap=round(match.overlap, 3),
            )
            for document, match in found
        ],
    )


def _left_out(extract: Path) -> Iterator[LeftOut]:
    for file in document_files(extract, "rejects"):
        for document in read_file(file):
            told = document.metadata
            if told["rule"] == REMOVED:
                yield LeftOut(
                    id=document.id,
                    source=told["source"],
                    url=told["url"],
                    ask=told["asked"],
                    how=told["how"],
                    overlap=told["overlap"],
                )


def write_audit(store: Store, audit: RemovalAudit) -> Path:
    """Write the audit beside the record of its run; the same audit gives the same bytes."""
    path = store.local / "runs" / f"{audit.run_id}.removals" / AUDIT
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(audit.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return path


def audit_run(session: Session) -> None:
    """Say what became of requests for removal in a run that has just made its shards, and write the audit."""
    if session.record.stages["shards"].state == "made":
        audit = audit_removals(session.store, session.record)
        session.display.note(f"{audit.told}; {write_audit(session.store, audit)}")
