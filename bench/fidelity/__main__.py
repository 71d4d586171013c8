"""How true the text is that comes out: ``python -m bench.fidelity [KIND...] [--data FOLDER] [--quick] [--json FILE]``.

A file of this package for each kind of input (`bench.fidelity`). What has a reference is compared with it: F1, or the
share of records that are equal to the byte; ours and the peers in one process, one after the other on the same records.
Peers: ``pip install 'deepmill[bench]'``; one that is missing is named and not guessed. Collections that are not ours to
hand on are read from ``--data``; a kind whose collection is missing says where it is to be had.
"""

from __future__ import annotations

import os
import pkgutil
from importlib import import_module
from pathlib import Path

for _variable in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_variable] = "1"

import bench.fidelity  # noqa: E402
from bench.fidelity.needs import Missing  # noqa: E402  # after the threads were limited
from bench.table import Row, bench_parser, show  # noqa: E402


def main() -> None:
    """Measure the kinds named, or all, and print the table."""
    kinds = {
        module.name: found
        for module in pkgutil.iter_modules(bench.fidelity.__path__)
        if hasattr(found := import_module(f"bench.fidelity.{module.name}"), "rows")
    }
    parser = bench_parser(__doc__, "a tenth of the records")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(kinds)}; all where none is named")
    parser.add_argument("--data", type=Path, help="folder of the collections")
    chosen = parser.parse_args()
    if unknown := set(chosen.kinds) - set(kinds):
        parser.error(f"no kind {', '.join(sorted(unknown))}; there are {', '.join(kinds)}")
    rows: list[Row] = []
    for name in chosen.kinds or kinds:
        try:
            rows += kinds[name].rows(chosen.data, chosen.quick)
        except Missing as missing:
            print(f"{name}: not measured: {missing}")
    show(rows, chosen.json)


if __name__ == "__main__":
    main()
