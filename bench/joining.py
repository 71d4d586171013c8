"""What `dedup` takes to join its clusters: ``python -m bench.joining [--quick] [--json FILE]``.

Keys and pairs of made-up documents, a third of which have a copy; one text is a tenth of a per cent of all. Each size
is decided by one process that holds every copy, and by tasks that hold a block each (`pipeline/dedup/removals.py`), on
one worker in a process of its own: processor time, and the peak of that process as the kernel kept it. The removals
must be the same. The tasks' peak must not grow with the documents: four times as many, at most 1.3 times the memory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.table import Row, bench_parser, row, show
from infra.execution import ENVIRONMENT_KEY
from infra.hashing import file_digest
from pipeline.dedup.clusters import KEYS

PER_FILE = 50_000
COPIES, MOST_COPIED, BANDS, FLAT = 0.33, 0.001, 14, 1.3
CHILD = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from pipeline.dedup.removals import write_removals
from pipeline.dedup.rounds import Limits
from pipeline.dedup.section import DedupConfig
start = time.process_time()
write_removals(DedupConfig(), Path(sys.argv[1]), Limits(**json.loads(sys.argv[2])))
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": time.process_time() - start, "mib": peak / 1024}))
"""


def make(work: Path, count: int) -> None:
    """Keys and pairs of `count` documents, a file of each at a time."""
    source = np.random.default_rng(1)
    (work / "keys").mkdir(parents=True)
    (work / "pairs").mkdir()
    words = np.where(source.random(count) < COPIES, source.integers(0, count // 3, count), np.arange(count) + count)
    words[source.random(count) < MOST_COPIED] = 0
    for number, begin in enumerate(range(0, count, PER_FILE)):
        part = words[begin : begin + PER_FILE]
        characters = 2 * part + (source.random(len(part)) < 0.5)
        columns = [
            [f"<urn:uuid:{value:032x}>" for value in source.integers(0, 2**62, len(part)).tolist()],
            ["web"] * len(part),
            np.zeros(len(part), dtype=np.uint32),
            *([value.to_bytes(16, "little") for value in _mixed(values).tolist()] for values in (characters, part)),
        ]
        pq.write_table(pa.table(columns, schema=KEYS), work / "keys" / f"{number:05d}.parquet")
    order = np.argsort(words, kind="stable")
    same = np.flatnonzero(words[order][1:] == words[order][:-1])
    pairs = np.stack(np.divmod(order[same], PER_FILE) + np.divmod(order[same + 1], PER_FILE), axis=1).astype("<u4")
    for band in range(BANDS):  # most pairs share most bands, and some lie between two clusters
        kept = pairs[source.random(len(pairs)) < 0.8]
        chance = np.stack([part for _ in "ab" for part in np.divmod(source.integers(0, count, count // 200), PER_FILE)])
        np.concatenate((kept, chance.T.astype("<u4"))).tofile(work / "pairs" / f"{band:05d}_00.dups")


def _mixed(values: np.ndarray) -> np.ndarray:
    """Numbers as far apart as digests are, the same for the same."""
    return values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def measure(work: Path, limits: dict[str, int]) -> dict[str, Any]:
    """Processor seconds, peak in MiB, and the digests of the removals."""
    environment = os.environ | {ENVIRONMENT_KEY: json.dumps({"workers": 1}), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(work), json.dumps(limits)]
    told = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
    found = [file_digest(path) for path in sorted((work / "removals").glob("*.parquet"))]
    shutil.rmtree(work / "removals")
    shutil.rmtree(work / "joining", ignore_errors=True)
    return {**told, "removals": found}


def main() -> None:
    """Measure, and print a table."""
    parser = bench_parser(__doc__)
    parser.add_argument("--sizes", default="", help="millions of documents, least first")
    options = parser.parse_args()
    sizes = [int(float(size) * 1e6) for size in (options.sizes or ("0.1,0.4" if options.quick else "1,4")).split(",")]
    block = min(sizes) // 10
    rows: list[Row] = []
    peaks = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder) / "work"
            make(work, size)
            one = measure(work, {"here": 1 << 60})
            tasks = measure(work, {"here": 0, "block": block, "task": 8 * block})
        same = one["removals"] == tasks["removals"]
        peaks.append(tasks["mib"])
        name = f"{size / 1e6:g}M documents"
        rows.append(row(f"{name}: peak", "MiB", tasks["mib"], {"one process": one["mib"]}, None))
        rows.append(row(f"{name}: processor", "s", tasks["seconds"], {"one process": one["seconds"]}, None))
        rows.append(row(f"{name}: same removals", "", float(same), {}, target=1.0))
    rows.append(row("peak, largest over smallest", "ratio", peaks[-1] / peaks[0], {}, target=FLAT, most=True))
    print(f"blocks of {block} rows, tasks of {8 * block}")
    show(rows, options.json)


if __name__ == "__main__":
    main()
