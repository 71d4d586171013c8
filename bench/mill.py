"""How long the main job takes: ``python -m bench.mill [--quick] [--json FILE]``.

Runs the sample recipe in a store of its own: first, again, and with one key of the last stage changed. `--quick` takes
a recipe of seconds. No peer covers this path, so the rows name none; the limits are those the project set itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.table import bench_parser, write_rows

LIMITS = {"first run": 360.0, "nothing left to do": 10.0, "one key changed": 60.0}
"""Seconds on two cores."""


def main() -> None:
    """Time the three runs and print a table; with ``--json`` write the rows."""
    chosen = bench_parser(__doc__, "a recipe of seconds").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = "sample"
        if chosen.quick:
            from tests.flows.tiny import write_recipe

            recipe = str(write_recipe(Path(folder)))
        rows = [
            row(name, run(recipe, Path(folder), *settings))
            for name, settings in (
                ("first run", ()),
                ("nothing left to do", ()),
                ("one key changed", ("--set", "export.title=Other")),
            )
        ]
    for entry in rows:
        mark = "holds" if entry["holds"] else "MISSES"
        print(f"{entry['metric']:<20} {entry['ours']:7.1f} s   limit {entry['target']:.0f} s   {mark}")
    write_rows(rows, chosen.json)


def run(recipe: str, folder: Path, *settings: str) -> float:
    """Seconds of one `deepmill run`."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", recipe, *settings],
        env=os.environ | {"DEEPMILL_ROOT": str(folder / "store")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - started


def row(name: str, seconds: float) -> dict[str, object]:
    """One line of the table."""
    limit = LIMITS[name]
    return {
        "metric": name,
        "unit": "s",
        "ours": round(seconds, 2),
        "peers": {},
        "ratio": round(seconds / limit, 3),
        "target": limit,
        "holds": seconds <= limit,
    }


if __name__ == "__main__":
    main()
