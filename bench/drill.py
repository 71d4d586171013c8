"""kill -9 at random moments: ``python -m bench.drill [--quick] [--kills N] [--seed N] [--json FILE]``.

Runs the sample recipe undisturbed in one store, and in another kills the run with SIGKILL at random moments, N times
(50), always starting it again. At the end both stores must hold the same bytes, nothing half-made may be visible, and
no process may be left. `--quick` takes a recipe of seconds and five kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from flows.stages import stage_names
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
    calm, rough = folder / "calm", folder / "rough"
    for place in (calm, rough):
        place.mkdir()
    started = time.monotonic()
    if start(calm, recipe).wait():
        sys.exit(f"the undisturbed run failed: {(calm / 'run.log').read_text()[-2000:]}")
    seconds = time.monotonic() - started
    chance, done, left, finished = random.Random(seed), 0, 0, 0
    while done < kills:
        process = start(rough, recipe)
        try:
            process.wait(chance.uniform(0.5, 2.5 * seconds / kills + 5))
        except subprocess.TimeoutExpired:
            left += kill(process)
            done += 1
            print(f"kill {done}: {len(contents(rough))} artifacts there", flush=True)
            continue
        finished += 1
        if finished > 3:  # everything is there long since: the moments were too late
            break
    status = start(rough, recipe).wait()
    return {
        "undisturbed_seconds": round(seconds, 1),
        "kills": done,
        "left_running": left,
        "status": status,
        "same": contents(calm) == contents(rough),
        "artifacts": len(contents(rough)),
    }


def main() -> None:
    """Drill, print what came out, and fail if a byte differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a recipe of seconds, five kills")
    parser.add_argument("--kills", type=int, help="how often")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--json", type=Path, help="where the rows go")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        recipe = "sample"
        if chosen.quick:
            from tests.flows.tiny import write_recipe

            recipe = str(write_recipe(Path(name)))
        found = drill(Path(name), recipe, chosen.kills or (5 if chosen.quick else 50), chosen.seed)
    holds = found["same"] and not found["left_running"] and not found["status"]
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
