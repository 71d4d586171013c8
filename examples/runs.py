"""What a store holds: runs, stages, and what became of every character: ``python examples/runs.py [STORE]``."""

from __future__ import annotations

import sys

from flows.run.record import records
from flows.run.run_view import Run
from infra.open_store import open_store
from infra.settings import Settings
from pipeline.tasks.ledger import DocumentMetrics


def main(root: str) -> None:
    """A line for each stage of each run, the latest run first."""
    store = open_store(Settings(root=root))
    for record in records(store):
        print(f"{record.run_id}: {record.state_now}")
        for stage in Run(record, store).stages:
            told = stage.measured_as(DocumentMetrics)
            said = f", {told.characters_out:,} of {told.characters_in:,} characters" if told else ""
            print(f"  {stage.name}: {stage.state}, {stage.seconds:.1f} s{said}")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["store"])
