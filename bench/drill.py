"""kill -9 at random moments: ``python -m bench.drill [--quick] [--kills N] [--seed N] [--json FILE]``.

Runs the sample recipe undisturbed in one store, and in another kills the run with SIGKILL at random moments, starting
it again each time; when it gets through in spite of that, it begins anew in an empty store, until it was killed N times
(50). The moments lie in every stage alike, whatever a stage takes. Every store must end with the same bytes, nothing
half-made may be visible, and no process may be left. `--quick` takes a recipe of seconds, and five kills unless
`--kills` says otherwise.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from bench.table import bench_parser
from flows.recipe.stages import stage_names
from infra.store import LocalStore

HOUSE = Path(__file__).parents[1]
GONE_SECONDS = 15.0
"""What a killed run started ends within this time."""


def start(folder: Path, recipe: str) -> subprocess.Popen[bytes]:
    """`deepmill run` on the store of `folder`, its output in a file beside."""
    variables = {"DEEPMILL_ROOT": str(folder / "store"), "PYTHONPATH": str(HOUSE)}
    with (folder / "run.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run", recipe], env=os.environ | variables, stdout=log, stderr=log
        )


def kill(process: subprocess.Popen[bytes]) -> int:
    """SIGKILL; how many of the processes it had started are still there after `GONE_SECONDS`."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(psutil.wait_procs(family, timeout=GONE_SECONDS)[1])


def contents(folder: Path) -> dict[str, str]:
    """Content digest of every published artifact, by stage and identity."""
    store = LocalStore(folder / "store")
    return {f"{item.stage}/{item.identity}": item.content for name in stage_names() for item in store.manifests(name)}


def drill(folder: Path, recipe: str, kills: int, seed: int) -> dict[str, Any]:
    """Do it all; what came out."""
    calm = folder / "calm"
    calm.mkdir()
    first, seconds = _undisturbed(calm, recipe)
    wanted, lengths = contents(calm), {name: stage["seconds"] for name, stage in _stages(calm).items()}
    chance, found = random.Random(seed), {"kills": 0, "stores": 0, "left_running": 0, "others": 0}
    stages = Counter[str]()
    while found["kills"] < kills:
        found["stores"] += 1
        rough = folder / f"rough{found['stores']}"
        rough.mkdir()
        process = start(rough, recipe)
        while found["kills"] < kills:
            try:
                _let_live(process, rough, chance, first, lengths)
                break
            except subprocess.TimeoutExpired:
                at = _stage_at_work(rough)
                found["left_running"] += kill(process)
                found["kills"] += 1
                stages[at] += 1
                print(f"kill {found['kills']} in {at}: {len(contents(rough))} artifacts there", flush=True)
                process = start(rough, recipe)
        if process.wait():
            sys.exit(f"a run that was not killed failed: {(rough / 'run.log').read_text()[-2000:]}")
        found["others"] += contents(rough) != wanted
        shutil.rmtree(rough)
    return found | {"undisturbed_seconds": round(seconds, 1), "killed_in": dict(stages), "artifacts": len(wanted)}


def _undisturbed(folder: Path, recipe: str) -> tuple[float, float]:
    """Seconds until the first stage is at work, and until the end."""
    started = time.monotonic()
    process = start(folder, recipe)
    while not (first := (folder / "store" / ".staging").exists()) and process.poll() is None:
        time.sleep(0.05)
    first_seconds = time.monotonic() - started
    if process.wait() or not first:
        sys.exit(f"the undisturbed run failed: {(folder / 'run.log').read_text()[-2000:]}")
    return first_seconds, time.monotonic() - started


def _let_live(
    process: subprocess.Popen[bytes], folder: Path, chance: random.Random, first: float, lengths: dict[str, float]
) -> None:
    """Return once the run has ended; raise TimeoutExpired when its moment has come.

    One in five dies while it starts, the others in the middle of a stage: of the one that is made next, or two times in
    five of the one after, and so on, for else none would ever be finished.
    """
    if chance.random() < 0.2:
        process.wait(chance.uniform(0.5, first))
        return
    store = LocalStore(folder / "store")
    before, later = len(store.runs()), 0
    while chance.random() < 0.4:
        later += 1
    while process.poll() is None:
        stages = _stages(folder) if len(store.runs()) > before else {}
        if sum(stage["state"] != "cached" for stage in stages.values()) > later:
            process.wait(chance.uniform(0.0, lengths.get(_stage_at_work(folder), 1.0)))
            return
        time.sleep(0.05)


def _stages(folder: Path) -> dict[str, Any]:
    """What the latest run has done about each stage."""
    store = LocalStore(folder / "store")
    latest = store.runs()[-1:]
    return dict((store.read_run(latest[0]) or {})["stages"]) if latest else {}


def _stage_at_work(folder: Path) -> str:
    """Where the latest run is."""
    return next((name for name, stage in _stages(folder).items() if stage["state"] == "running"), "between stages")


def main() -> None:
    """Drill, print what came out, and fail if a byte differs."""
    parser = bench_parser(__doc__, "a recipe of seconds, five kills")
    parser.add_argument("--kills", type=int, help="how often")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        recipe = "sample"
        if chosen.quick:
            from tests.flows.tiny import write_recipe

            recipe = str(write_recipe(Path(name)))
        found = drill(Path(name), recipe, chosen.kills or (5 if chosen.quick else 50), chosen.seed)
    holds = not found["others"] and not found["left_running"]
    print(found, "holds" if holds else "MISSES")
    if chosen.json:
        shared = {"unit": "", "peers": {}, "ratio": None, "target": None, "holds": holds}
        chosen.json.write_text(
            json.dumps([{"metric": key, "ours": value} | shared for key, value in found.items()]) + "\n"
        )
    if not holds:
        sys.exit(1)


if __name__ == "__main__":
    main()
