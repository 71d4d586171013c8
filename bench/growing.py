"""What a night costs a corpus that grows, against what its files cost alone; and are the bytes those of one run?

``python -m bench.growing [--quick] [--nights N] [--json FILE]``. The crawls and books of ``DEEPMILL_CORPORA`` are dealt
out to nights; each night after the first also brings copies of pages of the night before. Every night is a process of
its own, as `deepmill run` is, without Prefect: it plans, and makes `extract` to `shards` on one worker with
`execution.keep_parts`, the tokenizer pinned to the first night's. Its files alone are made likewise, in an empty store
that keeps nothing. Cost is processor time of the process and all below it. What those before cost a night is seen in
one that brings next to nothing: behind them all, and in an empty store.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.corpora import corpora
from bench.table import Row, bench_parser, row, show
from flows.recipe.plan import make_plan
from flows.recipe.recipe import Recipe
from infra.runner import make
from infra.store import LocalStore

MOST = 1.3
"""Times its own cost that a night may cost: the pass mark."""
COPIED = 0.1
"""Share of a night's pages that the next night brings again."""
CHARACTERS = 4000
"""Of a piece of a book."""
TRIES = 3
LONGEST = 100
"""Nights that a corpus grows before one costs `MOST` times its own: the pass mark."""
STAGES = ("extract", "clean", "dedup", "decontaminate", "shards")


def members(path: Path) -> Iterator[bytes]:
    """The gzip members of a file, packed as they are: a record of a crawl each."""
    data = path.read_bytes()
    while data:
        decoder = zlib.decompressobj(31)
        decoder.decompress(data)
        yield data[: len(data) - len(decoder.unused_data)]
        data = decoder.unused_data


def chapters(text: str) -> Iterator[str]:
    """A book in pieces of some thousand characters, at the ends of paragraphs."""
    held: list[str] = []
    for paragraph in text.split("\n\n"):
        held.append(paragraph)
        if sum(map(len, held)) >= CHARACTERS:
            yield "\n\n".join(held)
            held = []


def _write(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


def deal_out(folder: Path, raw: Path, nights: int, quick: bool) -> None:
    """Write the nights' files, `web/night-00.warc.gz` and `book/night-00.jsonl` and so on, all of about one size, and
    those of one night more that brings next to nothing: what it costs is what processes take to start."""
    crawls = sorted((folder / "web").glob("*.warc.gz"))[: 2 if quick else None]
    records = [record for crawl in crawls for record in members(crawl)]
    books = sorted((folder / "book").glob("*.txt"))[: 4 if quick else None]
    texts = [text for book in books for text in chapters(book.read_text(encoding="utf-8"))]
    for name in ("web", "book"):
        (raw / name).mkdir(parents=True)
    for night in range(nights):
        own, before = records[night::nights], records[night - 1 :: nights] if night else []
        copies = before[: int(COPIED * len(before))]
        (raw / "web" / f"night-{night:02d}.warc.gz").write_bytes(b"".join([*own, *copies]))
        _write(raw / "book" / f"night-{night:02d}.jsonl", texts[night::nights])
    (raw / "web" / f"night-{nights:02d}.warc.gz").write_bytes(b"".join(records[:: max(1, len(records) // 30)]))
    _write(raw / "book" / f"night-{nights:02d}.jsonl", texts[:20])


def recipe_of(raw: Path, nights: list[int], tokenizer: str | None, keep: bool) -> dict[str, Any]:
    """The recipe over some nights' files."""
    sources = {
        name: {"kind": kind, "paths": [str(raw / name / f"night-{night:02d}.{end}") for night in nights]}
        for name, kind, end in (("web", "web", "warc.gz"), ("book", "jsonl", "jsonl"))
    }
    tasks = [{"name": "chain_sum", "options": {"max_terms": 3}}]
    return {
        "name": "growing",
        "execution": {"workers": 1, "keep_parts": keep},
        "extract": {"sources": sources, "on_damaged": "skip"},
        "clean": {"max_loss": 1.0, "rules": {"c4_quality": False}},
        "dedup": {"max_loss": 1.0},
        "reasoning": {"tasks": tasks, "train": 100, "validation": 20, "test": 20},
        "tokenizer": {"vocabulary": 8192, "train_bytes": 5_000_000},
        "shards": {"sequence_length": 1024, "mixed_within": "file", "rows_per_file": 512},
        "pins": {"tokenizer": tokenizer} if tokenizer else {},
    }


def one_run(root: Path, recipe: Path) -> None:
    """What a night's process does: print seconds by stage, and each artifact's identity and content."""
    store = LocalStore(root)
    found = {}
    for item in make_plan(Recipe.model_validate_json(recipe.read_bytes()), store).stages:
        if item.stage.family.value != "corpus" or item.stage.name == "index":
            continue
        manifest = item.manifest if item.manifest and not item.runs else make(store, item.job, lambda event: None)[0]
        found[item.stage.name] = [manifest.identity, manifest.content, manifest.cost.get("cpu_seconds", 0.0)]
    print(json.dumps(found))


def run(root: Path, recipe: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Processor seconds of one run in a process of its own, and what it printed."""
    root.mkdir(exist_ok=True)
    file = root / "recipe.json"
    file.write_text(json.dumps(recipe))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "bench.growing", "--one", str(root), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return seconds, json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path, nights: int, quick: bool) -> list[Row]:
    """The rows of the table."""
    raw = folder / "raw"
    deal_out(corpora("web", "book"), raw, nights, quick)
    run(folder / "warm", recipe_of(raw, [nights], None, keep=False))  # what is compiled once
    first, made = run(folder / "first", recipe_of(raw, [0], None, keep=False))
    pinned = made["tokenizer"][0]
    print(f"first night: {first:.1f} s, {_by_stage(made)}", flush=True)

    def store(name: str) -> Path:
        shutil.copytree(folder / "first" / "tokenizer", folder / name / "tokenizer")
        return folder / name

    rows, grown, costs, owns, starts = [], store("grown"), [], [], []
    for night in range(nights):
        cost, made = run(grown, recipe_of(raw, [*range(night + 1)], pinned, keep=True))
        costs.append(cost)
        print(f"night {night}: {cost:.1f} s ({_by_stage(made)})", flush=True)
        if night in (0, nights // 2, nights - 1):  # the nights are alike, and a few of them tell what one costs
            own, alone = run(store(f"alone-{night}"), recipe_of(raw, [night], pinned, keep=False))
            owns.append(own)
            print(f"  its files alone: {own:.1f} s ({_by_stage(alone)})", flush=True)
            starts.append(run(store(f"start-{night}"), recipe_of(raw, [nights], pinned, keep=False))[0])
            print(f"  a night of next to nothing: {starts[-1]:.1f} s", flush=True)
    cost, at_once = run(store("at-once"), recipe_of(raw, [*range(nights)], pinned, keep=False))
    print(f"at once: {cost:.1f} s ({_by_stage(at_once)})")
    own, start = sum(owns) / len(owns), sum(starts) / len(starts)
    equal = sum(made[name][:2] == at_once[name][:2] for name in STAGES)
    rows.append(row("artifacts equal to one run's", "of 5", equal, {}, len(STAGES)))
    rows.append(row("dearest night / its files alone", "times", max(costs) / own, {}, MOST, most=True))
    for told, last in (("all nights", nights), ("the last three", 3)):
        bare = sum(costs[-last:]) / last - start
        rows.append(row(f"{told}, without the start of processes", "times", bare / (own - start), {}, MOST, most=True))
    rows.append(row("one run over everything / last night", "times", cost / costs[-1], {}, None))
    parts = (path.stat() for path in (grown / ".parts").rglob("*") if path.is_file())
    beside = sum(each.st_size for each in parts if each.st_nlink == 1)
    rows.append(row("kept parts beside the artifacts", "MB", beside / 1e6, {}, None))
    before = _of_those_before(folder, grown, store, nights, pinned)
    rows.append(row("a night for each that came before it", "s", before / nights, {"its own files": own - start}, None))
    if before > 0:
        reached = (MOST - 1) * (own - start) * nights / before
        rows.append(row(f"nights before one costs {MOST:g} times its own", "", reached, {}, LONGEST))
    return rows


def _of_those_before(folder: Path, grown: Path, store: Callable[[str], Path], nights: int, pinned: str) -> float:
    """Processor seconds that a night of next to nothing costs more behind all others than in an empty store: the two
    take turns, and the least of each counts."""
    recipes = {
        f"behind {nights} nights": recipe_of(folder / "raw", [*range(nights + 1)], pinned, keep=True),
        "with nothing before": recipe_of(folder / "raw", [nights], pinned, keep=True),
    }
    least = dict.fromkeys(recipes, math.inf)
    for number, (told, recipe) in itertools.product(range(TRIES), recipes.items()):
        if told.startswith("behind"):
            root = shutil.copytree(grown, folder / f"behind-{number}", copy_function=os.link)
        else:
            root = store(f"bare-{number}")
        seconds, made = run(root, recipe)
        print(f"next to nothing {told}: {seconds:.1f} s ({_by_stage(made)})", flush=True)
        least[told] = min(least[told], seconds)
    behind, bare = least.values()
    return behind - bare


def _by_stage(made: dict[str, Any]) -> str:
    return ", ".join(f"{name} {made[name][2]:.1f}" for name in STAGES)


def main() -> None:
    parser = bench_parser(__doc__)
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--one", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_run(*options.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options.nights, options.quick)
    show(rows, options.json)


if __name__ == "__main__":
    main()
