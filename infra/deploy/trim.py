"""Deletes what no run needs of an environment: ``trim.py SITE_PACKAGES``. Standard library alone.

Some wheels bring their own tests, programs in C++ among them: 0.2 of 2.3 GB. Only files that a package's RECORD lists
are deleted, and their lines there with them, so pip removes and replaces the package as ever. Packages that import
their tests (mpmath) are not on the list; licences stay.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["trim"]

TESTED = ("matplotlib", "networkx", "numba", "numpy", "pandas", "pyarrow", "scikit_learn", "scipy", "sympy", "torch")
"""Packages with more than 2 MB of tests."""
LEFT_OUT = re.compile(r"(?!.*\.dist-info/)(\w+/)+tests?/|torch/bin/(?!protoc|torch_shm_manager)")
"""Folders of tests, and programs that are tests."""


def trim(site: Path) -> tuple[int, int]:
    """Delete what `LEFT_OUT` names of the packages of `TESTED` below `site`: files and bytes."""
    records = [record for record in site.glob("*.dist-info/RECORD") if record.parent.name.split("-")[0] in TESTED]
    sizes = [size for record in sorted(records) for size in _trim(site, record)]
    return len(sizes), sum(sizes)


def _trim(site: Path, record: Path) -> list[int]:
    """The sizes of what was deleted. First the files, then their lines: a trim that is killed goes on the next time."""
    with record.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines))
    left_out = [row[0] for row in rows if row and LEFT_OUT.match(row[0])]
    sizes = []
    for name in left_out:
        with suppress(FileNotFoundError):
            sizes.append((site / name).stat().st_size)
            (site / name).unlink()
    for folder in sorted({(site / name).parent for name in left_out}, reverse=True):  # those within others first
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        with suppress(OSError):
            os.removedirs(folder)
    if left_out:
        amended = record.with_name("RECORD.new")
        with amended.open("w", newline="", encoding="utf-8") as lines:
            csv.writer(lines, lineterminator="\n").writerows(row for row in rows if row and row[0] not in set(left_out))
        amended.replace(record)
    return sizes


if __name__ == "__main__":
    number, size = trim(Path(sys.argv[1]))
    if number:
        print(f"  left out: {number:,} files of packages' own tests, {size / 1e6:.0f} MB")
