"""What each data stage costs per GB of its input, measured, and what 10 TB would then take.

``python -m bench.scale [--quick] [--json FILE] [--terabytes N]``. Each stage runs on one worker in a process of its own
over the crawls of ``DEEPMILL_CORPORA`` (default ``../shared/corpora``). Time is processor time,
which other work on the machine hardly touches; memory is the process's peak. It runs on the smallest crawl and on more:
the difference is what bytes cost, the rest is what a task costs however small. `docs/scale.md` explains the plan.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from infra.execution import ENVIRONMENT_KEY

CORPORA = Path(os.environ.get("DEEPMILL_CORPORA", "../shared/corpora"))
STAGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("extract", "pipeline.extract:extract", ()),
    ("clean", "pipeline.clean:clean", ("extract",)),
    ("dedup", "pipeline.dedup:dedup", ("clean",)),
    ("decontaminate", "pipeline.decontaminate:decontaminate", ("dedup", "reasoning")),
    ("tokenizer", "pipeline.tokenizer:tokenizer", ("decontaminate", "reasoning")),
    ("shards", "pipeline.shards:shards", ("decontaminate", "tokenizer")),
)
UNJUDGED = {"ratio": None, "target": None, "holds": None}
CHILD = """
import importlib, json, resource, sys, typing
from pathlib import Path
module, _, name = sys.argv[1].partition(":")
function = getattr(importlib.import_module(module), name)
hints = typing.get_type_hints(function)
config = hints[next(iter(hints))].model_validate(json.loads(sys.argv[2]))
inputs = {key: Path(value) for key, value in json.loads(sys.argv[3]).items()}
before = resource.getrusage(resource.RUSAGE_SELF)
metrics = function(config, inputs, Path(sys.argv[4]))
after = resource.getrusage(resource.RUSAGE_SELF)
children = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds = sum(u.ru_utime + u.ru_stime for u in (after, children)) - before.ru_utime - before.ru_stime
print("\\n" + json.dumps({"seconds": seconds, "peak": max(after.ru_maxrss, children.ru_maxrss) * 1024}))
"""


def measure(quick: bool) -> list[dict[str, Any]]:
    """Stage, bytes in and out, processor seconds (of which `start` for any task) and peak memory, in order."""
    crawls = sorted(CORPORA.glob("web/*.warc.gz"), key=lambda path: path.stat().st_size)
    few, many = chain(crawls[:1]), chain(crawls[:2] if quick else crawls)
    for small, large in zip(few, many, strict=True):
        bytes_more, seconds_more = large["in"] - small["in"], large["seconds"] - small["seconds"]
        rate = max(seconds_more, 0.0) / bytes_more if bytes_more > 0 else large["seconds"] / large["in"]
        large |= {"per_byte": rate, "start": max(small["seconds"] - rate * small["in"], 0.0)}
    return many


def chain(crawls: list[Path]) -> list[dict[str, Any]]:
    """Run every stage on these files."""
    paths = [str(path.resolve()) for path in crawls]
    configs: dict[str, Any] = {
        "extract": {"sources": {"web": {"kind": "web", "paths": paths}}, "on_damaged": "skip", "max_failure_rate": 0.1},
        "clean": {"rules": {"url": True, "c4_quality": False}},
        "tokenizer": {"vocabulary": 32_768, "train_bytes": 10_000_000},
        "shards": {"sequence_length": 2048},
    }
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "reasoning").mkdir()
        for split in ("train", "validation", "test"):
            row = {"question": "How many apples are left if seven of twelve are eaten by three children?"}
            (folder / "reasoning" / f"{split}.jsonl").write_text(json.dumps(row | {"reasoning": "12-7", "answer": "5"}))
        sizes = {"raw": sum(Path(path).stat().st_size for path in paths), "reasoning": 0}
        for name, entrypoint, inputs in STAGES:
            out = folder / name
            out.mkdir()
            arguments = [entrypoint, json.dumps(configs.get(name, {}))]
            arguments += [json.dumps({key: str(folder / key) for key in inputs}), str(out)]
            environment = os.environ | {ENVIRONMENT_KEY: json.dumps({"workers": 1}), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", CHILD, *arguments],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
            told = json.loads(done.stdout.strip().splitlines()[-1])
            work = out / ".work"
            sizes[name] = _size(out) - _size(work)
            reads = sizes[inputs[0] if inputs else "raw"]
            found.append({"stage": name, "in": reads, "out": sizes[name], "work": _size(work), **told})
    return found


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--terabytes", type=float, default=10.0)
    options = parser.parse_args()
    measured = measure(options.quick)
    names = ("in MB", "out MB", "work MB", "cpu s", "start s", "s/MB", "peak MiB")
    print(f"{'stage':14} " + " ".join(f"{name:>8}" for name in names))
    for row in measured:
        sizes = " ".join(f"{row[key] / 1e6:8.2f}" for key in ("in", "out", "work"))
        times = f"{row['seconds']:8.1f} {row['start']:8.1f} {row['per_byte'] * 1e6:8.2f}"
        print(f"{row['stage']:14} {sizes} {times} {row['peak'] / 2**20:8.0f}")
    print(
        f"\n{'stage':14} {'in TB':>8} {'out TB':>8} {'work TB':>8} {'core hours':>11}   of {options.terabytes:g} TB raw"
    )
    for row in (rows := plan(measured, options.terabytes)):
        sizes = " ".join(f"{row[key]:8.2f}" for key in ("in_tb", "out_tb", "work_tb"))
        print(f"{row['stage']:14} {sizes} {row['core_hours']:11.0f}")
    if options.json:
        units = {"seconds": "cpu s", "peak": "bytes", "in": "bytes", "out": "bytes"}
        rows_of = [
            {"metric": f"{row['stage']}.{key}", "unit": unit, "ours": row[key], "peers": {}} | UNJUDGED
            for row in measured
            for key, unit in units.items()
        ]
        options.json.write_text(json.dumps([*rows_of, {"plan": rows}], indent=2) + "\n")


if __name__ == "__main__":
    main()
