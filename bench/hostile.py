"""What hostile input costs: ``python -m bench.hostile [--quick] [--only WORD] [--json FILE]``.

For every rule about text and every reader of files: how many times the work twice the input is, the worst of all kinds
of hostile input (`tests/pipeline/hostile.py`, `tests/pipeline/hostile_files.py`), the seconds of the larger input, and
the memory that it took beyond what a process has. Each is measured in a process of its own, by processor time. Work of
less than some milliseconds has no growth that a clock could tell, and counts as 1. Readers marked `guarded` are C code
that is not ours: where their work is not linear, a record has its limit of processor time (here a second).
"""

from __future__ import annotations

import json
import math
import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.table import bench_parser
from tests.pipeline.hostile import LITTLE, RULES, TEXTS, growth, random_texts, text_of
from tests.pipeline.hostile_files import READERS

TARGET = 2.5
"""Times the work that twice the input may be."""
SIZE = 60_000
SEED, SHAPES = 1, 20


@dataclass(frozen=True)
class Cost:
    """What one rule or reader takes."""

    name: str
    factor: float
    """Of the work, for each doubling of the input."""
    seconds: float
    """Of the larger input."""
    megabytes: float
    """Most memory, beyond that of the process at its beginning."""
    worst: str
    guarded: bool = False

    @property
    def holds(self) -> bool:
        return self.factor <= TARGET or (self.guarded and self.seconds < TARGET)


def _factor(seconds: float, growing: float) -> float:
    return 1.0 if seconds <= LITTLE else math.sqrt(growing)


def rule_cost(name: str, shapes: int) -> Cost:
    """The worst of all shapes of text."""
    work = RULES[name]
    work("The harbour of the old town lies open to the west. " * 40)  # what is loaded once
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worst = Cost(name, 0.0, 0.0, 0.0, "")
    for shape, parts in [*TEXTS.items(), *random_texts(SEED, shapes)]:
        seconds, growing = growth(_asked(work, parts), SIZE)
        factor = _factor(seconds, growing)
        if (factor, seconds) > (worst.factor, worst.seconds):
            worst = Cost(name, factor, seconds, 0.0, shape)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin
    return Cost(name, worst.factor, worst.seconds, peak / 1024, worst.worst)


def _asked(work: Callable[[str], object], parts: tuple[str, str, str]) -> Callable[[int], Callable[[], object]]:
    def of(size: int) -> Callable[[], object]:
        text = text_of(parts, size)
        return lambda: work(text)

    return of


def reader_cost(name: str, _: int) -> Cost:
    """One file, and one four times as large."""
    reader = READERS[name]
    with tempfile.TemporaryDirectory() as folder:

        def of(size: int) -> Callable[[], object]:
            path = Path(folder) / str(size)
            path.write_bytes(reader.make(size))
            return lambda: reader.read(path)

        begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, growing = growth(of, reader.size, 2)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin
    return Cost(name, _factor(seconds, growing), seconds, peak / 1024, "", reader.guarded)


def measured(cost: Callable[[str, int], Cost], name: str, shapes: int) -> Cost:
    """The cost, found out in a process of its own."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=lambda: theirs.send(cost(name, shapes)))
    process.start()
    theirs.close()
    found: Cost = mine.recv()
    process.join()
    return found


def main() -> None:
    parser = bench_parser((__doc__ or "").partition("\n")[0], "no shapes of text beyond the named ones")
    parser.add_argument("--only", default="", help="rules and readers with this in their name")
    options = parser.parse_args()
    chosen = [(rule_cost, name) for name in RULES] + [(reader_cost, name) for name in READERS]
    costs = []
    print(f"{'':<36} {'x2':>6} {'seconds':>8} {'MB':>8}")
    for cost, name in chosen:
        if options.only in name:
            found = measured(cost, name, 0 if options.quick else SHAPES)
            costs.append(found)
            said = "" if found.holds else "MISSES"
            bound = "guarded" if found.guarded and found.factor > TARGET else ""
            told = f"{name:<36} {found.factor:>6.2f} {found.seconds:>8.3f} {found.megabytes:>8.1f}  {bound} {said} "
            print(f"{told}{found.worst}".rstrip(), flush=True)
    missed = [found.name for found in costs if not found.holds]
    print(
        f"{len(costs) - len(missed)} of {len(costs)} grow by at most {TARGET} times"
        + "".join(map("\n  {}".format, missed))
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(found) for found in costs], indent=2) + "\n")


if __name__ == "__main__":
    main()
