"""The accounts of a run's stages as people read them: phrases, shares, and where the characters of a source went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flows.report.flow_chart import Loss, Step, flow
from flows.run.run_view import Run
from infra.manifest import Manifest
from infra.units import count, percent
from pipeline.tasks.ledger import MARKUP, Account, DocumentMetrics

__all__ = ["STAGES", "accounts", "flows_of", "kept_characters", "shares"]

STAGES = ("extract", "clean", "dedup", "recall", "quality", "decontaminate", "shards")
"""Those that have accounts, in order."""
FLOWS = 12
"""Sources of which a diagram is drawn: the largest."""


def accounts(manifests: Mapping[str, Manifest | None]) -> dict[str, DocumentMetrics]:
    """By stage, where the manifest has any."""
    found = {name: DocumentMetrics.read(each.metrics) for name in STAGES if (each := manifests.get(name))}
    return {name: metrics for name, metrics in found.items() if metrics.has_accounts}


def kept_characters(found: DocumentMetrics) -> str:
    """How much of its text a stage kept: ``12.3 M of 13.0 M characters kept``; empty where it does not say."""
    if not found.has_accounts:
        return ""
    if found.characters_in == found.characters_out:
        return f"all {count(found.characters_out)} characters kept"
    return f"{count(found.characters_out)} of {count(found.characters_in)} characters kept"


def shares(found: Mapping[str, DocumentMetrics]) -> Iterator[tuple[str, list[str]]]:
    """For each source the share of its characters that each of the stages kept, in the order of `found`."""
    for source in _sources(found):
        cells = []
        for metrics in found.values():
            account = metrics.by_source.get(source, Account())
            cells.append(percent(account.characters_out / account.characters_in) if account.characters_in else "")
        yield source, cells


def flows_of(run: Run) -> Iterator[tuple[str, str, str]]:
    """For each of the largest sources its name, the diagram of where its characters went, and what that leaves out."""
    found = accounts({stage.name: stage.manifest for stage in run.stages})
    for source in _sources(found)[:FLOWS]:
        steps = [
            _step(name, metrics.by_source[source]) for name, metrics in found.items() if source in metrics.by_source
        ]
        first = found["extract"].by_source.get(source) if "extract" in found else None
        markup = first.cut.get(MARKUP, 0) if first else 0
        caption = "Orange was cut out of documents that stay, red rejected with whole ones."
        if markup > 0:
            caption += f" The files had {count(markup)} characters of markup besides."
        yield source, flow(steps, label=f"Where the characters of {source} went"), caption


def _step(name: str, account: Account) -> Step:
    """A stage of the diagram. Markup is neither text nor a loss."""
    markup = max(account.cut.get(MARKUP, 0), 0)
    came = account.characters_in - markup + sum(each.characters for each in account.moved_in.values())
    losses = [
        *(Loss("cut", rule, n) for rule, n in account.cut.items() if rule != MARKUP and n > 0),
        *(Loss("rejected", rule, each.characters) for rule, each in account.rejected.items() if each.characters),
        *(Loss("moved", f"now {source}", each.characters) for source, each in account.moved_out.items()),
    ]
    return Step(
        name, came, account.characters_out, tuple(sorted(losses, key=lambda loss: (-loss.characters, loss.rule)))
    )


def _sources(found: Mapping[str, DocumentMetrics]) -> list[str]:
    """Those with most text first."""
    most: dict[str, int] = {}
    for metrics in found.values():
        for source, account in metrics.by_source.items():
            most[source] = max(most.get(source, 0), account.characters_out, account.characters_in)
    return sorted(most, key=lambda source: (-most[source], source))
