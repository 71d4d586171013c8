"""What each data stage costs per GB of its input, measured, and what 10 TB would then take.

``python -m bench.scale [--quick] [--json FILE] [--terabytes N] [--workers 1,2]``. Each stage runs in a process of its
own over the crawls of ``DEEPMILL_CORPORA`` (default ``../shared/corpora``). Time is processor time,
which other work on the machine hardly touches; memory is the process's peak. It runs on the smallest crawl and on more:
the difference is what bytes cost, the rest is what a task costs however small. The plan is of the first number of
workers; of the others it is told what they cost besides, and how much sooner they are done. `docs/scale.md` explains
it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from bench.corpora import corpora
from bench.table import bench_parser
from infra.execution import ENVIRONMENT_KEY

STAGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("extract", "pipeline.extract:extract", ()),
    ("clean", "pipeline.clean.stage:clean", ("extract",)),
    ("dedup", "pipeline.dedup.stage:dedup", ("clean",)),
    ("decontaminate", "pipeline.dedup.decontaminate:decontaminate", ("dedup", "reasoning")),
    ("tokenizer", "pipeline.tokens.tokenizer:tokenizer", ("decontaminate", "reasoning")),
    ("shards", "pipeline.tokens.shards:shards", ("decontaminate", "tokenizer")),
)
UNJUDGED = {"ratio": None, "target": None, "holds": None}
CHILD = """
import importlib, json, sys, typing
from pathlib import Path
import psutil
module, _, name = sys.argv[1].partition(":")
function = getattr(importlib.import_module(module), name)
hints = typing.get_type_hints(function)
config = hints[next(iter(hints))].model_validate(json.loads(sys.argv[2]))
inputs = {key: Path(value) for key, value in json.loads(sys.argv[3]).items()}
def used():
    me = psutil.Process()
    living = sum(sum(child.cpu_times()[:4]) for child in me.children(recursive=True))
    return sum(me.cpu_times()[:4]) + living
before = used()
metrics = function(config, inputs, Path(sys.argv[4]))
# The kernel's own record, and not ru_maxrss, which a process has from the one that started it.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
told = {"seconds": used() - before, "process": peak * 1024, "documents": getattr(metrics, "documents_out", None)}
print("\\n" + json.dumps(told))
"""


def measure(quick: bool, workers: int = 1) -> list[dict[str, Any]]:
    """Stage, bytes in and out, processor seconds (of which `start` for any task) and peak memory, in order."""
    crawls = sorted(corpora("web").glob("web/*.warc.gz"), key=lambda path: path.stat().st_size)
    _, few, many = (  # the first for what is compiled once
        chain({"web": {"kind": "web", "paths": [str(path.resolve()) for path in paths]}}, workers=workers)
        for paths in (crawls[:1], crawls[:1], crawls[:2] if quick else crawls)
    )
    return with_rates(few, many)


def with_rates(few: list[dict[str, Any]], many: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`many`, with the processor seconds that a byte costs beyond those that a task costs however small."""
    for small, large in zip(few, many, strict=True):
        bytes_more, seconds_more = large["in"] - small["in"], large["seconds"] - small["seconds"]
        rate = max(seconds_more, 0.0) / bytes_more if bytes_more > 0 else large["seconds"] / large["in"]
        large |= {"per_byte": rate, "start": max(small["seconds"] - rate * small["in"], 0.0)}
    return many


def chain(
    sources: dict[str, Any],
    tell: Callable[[dict[str, Any]], None] | None = None,
    folder: Path | None = None,
    workers: int = 1,
) -> list[dict[str, Any]]:
    """Run every stage on these sources; `tell` gets each stage's numbers.

    They run in `folder`, where those that an earlier call has ended are not run again; else in a temporary one.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return chain(sources, tell, Path(temporary), workers)
    configs: dict[str, Any] = {
        "extract": {"sources": sources, "on_damaged": "skip", "max_failure_rate": 0.1},
        "clean": {"rules": {"url": True, "c4_quality": False}},
        "tokenizer": {"vocabulary": 32_768, "train_bytes": 10_000_000},
        "shards": {"sequence_length": 2048},
    }
    found = []
    (folder / "reasoning").mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        row = {"question": "How many apples are left if seven of twelve are eaten by three children?"}
        (folder / "reasoning" / f"{split}.jsonl").write_text(json.dumps(row | {"reasoning": "12-7", "answer": "5"}))
    raw = [Path(path) for source in sources.values() for path in source["paths"]]
    sizes = {"raw": sum(path.stat().st_size if path.is_file() else _size(path) for path in raw), "reasoning": 0}
    for name, entrypoint, inputs in STAGES:
        out, done = folder / name, folder / f"{name}.json"
        if not done.exists():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            arguments = [entrypoint, json.dumps(configs.get(name, {}))]
            arguments += [json.dumps({key: str(folder / key) for key in inputs}), str(out)]
            told = _run(name, arguments, workers)
            work = _size(out / ".work")
            sides = {"in": sizes[inputs[0] if inputs else "raw"], "out": _size(out) - work, "work": work}
            done.write_text(json.dumps({"stage": name, **sides, **told}))
        found.append(json.loads(done.read_text()))
        sizes[name] = found[-1]["out"]
        if tell:
            tell(found[-1])
    return found


def _run(name: str, arguments: list[str], workers: int) -> dict[str, Any]:
    """Run a stage; what it says of itself, and the peak of the memory of all its processes."""
    environment = os.environ | {ENVIRONMENT_KEY: json.dumps({"workers": workers}), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", CHILD, *arguments]
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=complained)
        tree, clock = 0, time.monotonic()
        while True:
            try:
                process.wait(0.5)
                break
            except subprocess.TimeoutExpired:
                tree = max(tree, _memory(process.pid))
        wall = time.monotonic() - clock
        for file in (said, complained):
            file.seek(0)
        if process.returncode:
            raise SystemExit(f"{name}: {complained.read().strip().splitlines()[-1]}")
        told: dict[str, Any] = json.loads(said.read().strip().splitlines()[-1])
    return {**told, "peak": max(tree, told["process"]), "wall": wall}


def _memory(pid: int) -> int:
    """Bytes that a process and all below it hold, a page that several share counted once."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += each.memory_full_info().pss
    return total


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def plan(measured: list[dict[str, Any]], terabytes: float) -> list[dict[str, Any]]:
    """What the same stages take of so many TB of compressed raw files."""
    scaled, size = [], terabytes * 1e12
    for row in measured:
        if row["stage"] == "tokenizer":  # trains on a bounded sample
            continue
        factor = size / row["in"]
        scaled.append(
            {
                "stage": row["stage"],
                "in_tb": size / 1e12,
                "out_tb": row["out"] * factor / 1e12,
                "work_tb": row["work"] * factor / 1e12,
                "core_hours": row["per_byte"] * size / 3600,
            }
        )
        if row["stage"] != "shards":
            size = row["out"] * factor
    return scaled


def main() -> None:
    """Measure, and print both tables."""
    parser = bench_parser(__doc__)
    parser.add_argument("--terabytes", type=float, default=10.0)
    parser.add_argument("--workers", default="1", help="such as 1,2")
    options = parser.parse_args()
    by_workers = {int(count): measure(options.quick, int(count)) for count in options.workers.split(",")}
    measured = next(iter(by_workers.values()))
    names = ("in MB", "out MB", "work MB", "cpu s", "start s", "s/MB", "peak MiB")
    print(f"{'stage':14} " + " ".join(f"{name:>8}" for name in names))
    for row in measured:
        sizes = " ".join(f"{row[key] / 1e6:8.2f}" for key in ("in", "out", "work"))
        times = f"{row['seconds']:8.1f} {row['start']:8.1f} {row['per_byte'] * 1e6:8.2f}"
        print(f"{row['stage']:14} {sizes} {times} {row['peak'] / 2**20:8.0f}")
    for count, others in list(by_workers.items())[1:]:
        print(f"\n{count} workers: processor s (times those of {next(iter(by_workers))}), s by the clock (times)")
        for one, other in zip(measured, others, strict=True):
            costs, waits = (other[key] / one[key] for key in ("seconds", "wall"))
            print(
                f"{one['stage']:14} {other['seconds']:8.1f} ({costs:.2f}) {other['wall']:8.1f} ({waits:.2f}) "
                f"{other['peak'] / 2**20:8.0f} MiB together"
            )
    print(
        f"\n{'stage':14} {'in TB':>8} {'out TB':>8} {'work TB':>8} {'core hours':>11}   of {options.terabytes:g} TB raw"
    )
    for row in (rows := plan(measured, options.terabytes)):
        sizes = " ".join(f"{row[key]:8.2f}" for key in ("in_tb", "out_tb", "work_tb"))
        print(f"{row['stage']:14} {sizes} {row['core_hours']:11.0f}")
    if options.json:
        units = {"seconds": "cpu s", "peak": "bytes", "process": "bytes", "in": "bytes", "out": "bytes"}
        rows_of = [
            {"metric": f"{row['stage']}.{key}", "unit": unit, "ours": row[key], "peers": {}} | UNJUDGED
            for row in measured
            for key, unit in units.items()
        ]
        options.json.write_text(json.dumps([*rows_of, {"plan": rows}], indent=2) + "\n")


if __name__ == "__main__":
    main()
