"""The table and the rows that every bench gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Row", "print_table", "row"]

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
