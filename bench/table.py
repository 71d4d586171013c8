"""The table and the rows that every bench gives."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Row", "bench_parser", "print_table", "row", "show", "write_rows"]

Row = dict[str, Any]
"""metric, unit, ours, peers (name to value, None where it is not installed), ratio, target, holds."""


def row(
    metric: str,
    unit: str,
    ours: float,
    peers: Mapping[str, float | None],
    target: float | None,
    *,
    most: bool = False,
) -> Row:
    """One row. `target` is for the ratio to the best peer where there is one, else for the value itself.

    Args:
        most: the target is the most that is allowed, not the least; with peers a smaller value is then the better one.
    """
    known = [value for value in peers.values() if value]
    ratio = None
    if known:
        ratio = ours / (min(known) if most else max(known))
    judged = ours if not peers else ratio
    holds = None if target is None or judged is None else (judged <= target if most else judged >= target)
    return {
        "metric": metric,
        "unit": unit,
        "ours": round(ours, 4),
        "peers": {name: None if value is None else round(value, 4) for name, value in peers.items()},
        "ratio": None if ratio is None else round(ratio, 3),
        "target": target,
        "holds": holds,
    }


def print_table(rows: Sequence[Row]) -> None:
    """Print `rows`, one a line."""
    width = max((len(entry["metric"]) for entry in rows), default=0)
    for entry in rows:
        peers = ", ".join(
            f"{name} {'missing' if value is None else f'{value:,.2f}'}" for name, value in entry["peers"].items()
        )
        told = [f"{entry['metric']:<{width}}  {entry['ours']:>12,.2f} {entry['unit']:<9}"]
        if peers:
            told.append(peers)
        if entry["ratio"] is not None:
            told.append(f"ratio {entry['ratio']:.2f}")
        if entry["target"] is not None:
            told.append(f"target {entry['target']:g}")
        if entry["holds"] is not None:
            told.append("holds" if entry["holds"] else "MISSES")
        if "by_seed" in entry:
            told.append(f"by seed {entry['by_seed']}")
        print("  ".join(told))


def show(rows: Sequence[Row], to: Path | None) -> None:
    """Print `rows` and, where ``--json`` named a file, write them there."""
    print_table(rows)
    write_rows(rows, to)


def write_rows(rows: Sequence[Row], to: Path | None) -> None:
    """Write `rows` where ``--json`` named a file."""
    if to:
        to.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def bench_parser(description: str | None, quick: str | None = None) -> argparse.ArgumentParser:
    """What every bench can be told: ``--quick``, which does what `quick` says, and ``--json``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, help="where the rows go")
    return parser
