"""What orchestration costs: ``python -m bench.operations [--quick] [--part PART ...] [--folder F] [--json FILE]``.

Start-up of `plan` and of a run in which everything is cached, the price of a stage against its bare function, a store
of ten thousand artifacts, and the same chain of five copying stages in DVC and Metaflow, interleaved. The peers live in
an environment of their own, ``DEEPMILL_PEERS=/path/to/venv`` (``pip install dvc metaflow``), or are missing. With
`--folder`, what `start` made the first time is there the second time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.table import write_rows
from infra.hashing import identity_of
from infra.manifest import Manifest
from infra.runner import Job, make
from infra.settings import Settings
from infra.store import LocalStore

HOUSE = Path(__file__).parents[1]
STAGES = 5
PARTS = ("chain", "many", "log", "start")
STEP = "import sys; open(sys.argv[2], 'w').write(open(sys.argv[1]).read() + '+')"
METAFLOW = """
from metaflow import FlowSpec, step
class Chain(FlowSpec):
    @step
    def start(self):
        self.text = "hello"
        self.next(self.s1)
{steps}
    @step
    def end(self):
        pass
if __name__ == "__main__":
    Chain()
"""


def timed(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def command(*arguments: str, folder: Path, **variables: str) -> Callable[[], object]:
    def call() -> object:
        return subprocess.run(
            arguments, cwd=folder, env=os.environ | variables, check=True, stdout=subprocess.DEVNULL, timeout=600
        )

    return call


def deepmill(root: Path, *arguments: str) -> Callable[[], object]:
    kept = {"DEEPMILL_ROOT": str(root / "store"), "PYTHONPATH": str(HOUSE), "PREFECT_HOME": str(root / "prefect")}
    return command(
        sys.executable, "-m", "flows.cli", *arguments, folder=root if "tiny.yaml" in arguments else HOUSE, **kept
    )


def row(
    metric: str, unit: str, ours: float, target: float | None, peers: Mapping[str, float | None] | None = None
) -> dict[str, Any]:
    """One line; the ratio is to the target, or to the best peer (below 1: ours is better)."""
    there = {name: value for name, value in (peers or {}).items() if value is not None}
    against = target if target is not None else min(there.values(), default=None)
    return {
        "metric": metric,
        "unit": unit,
        "ours": round(ours, 4),
        "peers": {name: "missing" if value is None else round(value, 4) for name, value in (peers or {}).items()},
        "ratio": round(ours / against, 3) if against else None,
        "target": target,
        "holds": ours <= against if against else None,
    }


def start_up(root: Path, recipe: str, times: int) -> list[dict[str, Any]]:
    """From the start of the process, after one run that made everything."""
    deepmill(root, "run", recipe)()
    plan = statistics.median(timed(deepmill(root, "plan", recipe)) for _ in range(times))
    cached = statistics.median(timed(deepmill(root, "run", recipe)) for _ in range(times))
    rows = [row(f"plan, all cached ({recipe})", "s", plan, 2.0), row(f"run, all cached ({recipe})", "s", cached, 5.0)]
    for what, code in (
        ("imports of plan", "import flows.cli, flows.recipe.plan, flows.recipe.recipe, infra.store"),
        ("import of mlflow", "import mlflow"),
        ("import of prefect and the flows", "import flows.mill"),
    ):
        seconds = timed(command(sys.executable, "-c", code, folder=HOUSE))
        rows.append(row(f"share: {what}", "s", seconds, None))
    return rows


def chain_of_ours(root: Path, salt: str) -> None:
    """Five stages through the runner: lease, supervisor, process, checksums, manifest, rename."""
    store, inputs = LocalStore(root / "store"), {}
    for number in range(STAGES):
        config = {"text": salt}
        stage = f"s{number}"
        job = Job(stage, 1, identity_of(stage, 1, config, inputs), "tests.infra.fake_stages:write", config, inputs)
        make(store, job, lambda event: None)
        inputs = {"before": f"{stage}/{job.identity}"}


def chains(root: Path, times: int) -> list[dict[str, Any]]:
    """The same chain everywhere, made and cached."""
    venv = os.environ.get("DEEPMILL_PEERS")
    dvc, meta = _dvc(root / "dvc", venv), _metaflow(root / "metaflow", venv)
    made: dict[str, list[float]] = {"ours": [], "dvc": [], "metaflow": []}
    cached: dict[str, list[float]] = {"ours": [], "dvc": []}
    for turn in range(times):
        made["ours"].append(timed(lambda turn=turn: chain_of_ours(root, f"salt {turn}")))  # type: ignore[misc]
        cached["ours"].append(timed(lambda turn=turn: chain_of_ours(root, f"salt {turn}")))  # type: ignore[misc]
        if dvc:
            (root / "dvc" / "f0").write_text(f"salt {turn}")
            made["dvc"].append(timed(dvc))
            cached["dvc"].append(timed(dvc))
        if meta:
            made["metaflow"].append(timed(meta))

    def median(values: list[float]) -> float | None:
        return statistics.median(values) if values else None

    bare = timed(lambda: [command(sys.executable, "-c", "pass", folder=root)() for _ in range(STAGES)])
    ours = median(made["ours"]) or 0.0
    return [
        row("five stages, made", "s", ours, None, {"dvc": median(made["dvc"]), "metaflow": median(made["metaflow"])}),
        row(
            "five stages, cached",
            "s",
            median(cached["ours"]) or 0.0,
            None,
            {"dvc": median(cached["dvc"]), "metaflow": None},
        ),
        row("overhead per stage against a bare process", "s", (ours - bare) / STAGES, 1.0),
    ]


def _dvc(folder: Path, venv: str | None) -> Callable[[], object] | None:
    program = Path(venv or "/nowhere") / "bin" / "dvc"
    if not program.exists():
        return None
    folder.mkdir()
    quiet = {"DVC_NO_ANALYTICS": "1"}
    for arguments in (("git", "init", "-q"), (str(program), "init", "-q")):
        command(*arguments, folder=folder, **quiet)()
    (folder / "step.py").write_text(STEP)
    (folder / "f0").write_text("hello")
    for number in range(STAGES):
        before, after = f"f{number}", f"f{number + 1}"
        stage = [str(program), "stage", "add", "-q", "-n", f"s{number}", "-d", before, "-d", "step.py", "-o", after]
        command(*stage, f"{sys.executable} step.py {before} {after}", folder=folder, **quiet)()
    return command(str(program), "repro", "-q", folder=folder, **quiet)


def _metaflow(folder: Path, venv: str | None) -> Callable[[], object] | None:
    python = Path(venv or "/nowhere") / "bin" / "python"
    if not (Path(venv or "/nowhere") / "bin" / "metaflow").exists():
        return None
    folder.mkdir()
    following = [f"s{number}" for number in range(2, STAGES + 1)] + ["end"]
    steps = "".join(
        f"    @step\n    def s{number}(self):\n        self.text += '+'\n        self.next(self.{after})\n"
        for number, after in zip(range(1, STAGES + 1), following, strict=True)
    )
    (folder / "chain.py").write_text(METAFLOW.format(steps=steps))
    quiet = {"METAFLOW_USER": "bench", "METAFLOW_HOME": str(folder), "USERNAME": "bench"}
    return command(str(python), "chain.py", "--quiet", "run", folder=folder, **quiet)


def many_artifacts(root: Path, count: int) -> list[dict[str, Any]]:
    """A store of `count` artifacts and a run for every ten: plan, status and retention on it."""
    from tests.flows.tiny import write_recipe

    write_recipe(root)
    folder = root / "store"
    for number in range(count):
        identity = f"{number:016x}"
        place = folder / "tokenizer" / identity
        place.mkdir(parents=True)
        manifest = Manifest(
            stage="tokenizer", version=1, identity=identity, config={}, files=(), content=identity, fingerprint="x",
            started="2026-01-01T00:00:00+00:00", seconds=1.0, run_id="",
        )  # fmt: skip
        (place / "manifest.json").write_text(manifest.model_dump_json())
    store = LocalStore(folder)
    for number in range(count // 10):
        entry = {"identity": f"{number:016x}", "state": "made", "seconds": 1.0}
        record = {
            "run_id": f"20260101-{number:06d}-many", "recipe_name": "many", "recipe": {}, "state": "completed",
            "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:01:00+00:00", "error": None,
            "stages": {"tokenizer": entry}, "release": {},
        }  # fmt: skip
        (folder / "runs").mkdir(exist_ok=True)
        (folder / "runs" / f"{record['run_id']}.json").write_text(json.dumps(record))
    from flows.operations.retention import plan_gc

    settings = Settings(root=str(folder))
    from infra.tracking import registry_client

    registry_client(settings)  # importing MLflow and making its database is no part of the question
    sweep = timed(lambda: plan_gc(store, settings, 20, 14))
    return [
        row(f"plan, {count} artifacts", "s", timed(deepmill(root, "plan", "tiny.yaml")), 2.0),
        row(f"status, {count // 10} runs", "s", timed(deepmill(root, "status")), 2.0),
        row(f"what may go, {count} artifacts", "s", sweep, 10.0),
    ]


def log_throughput(root: Path) -> list[dict[str, Any]]:
    """Metric points per second into MLflow on SQLite, batched as a run does it."""
    from infra.tracking import Tracker

    points = 20_000
    log = Tracker(Settings(root=str(root / "store"))).start("bench", {})
    started = time.monotonic()
    for step in range(points // 4):
        log.metrics({"loss": 1.0, "lr": 0.1, "norm": 2.0, "speed": 3.0}, step)
    log.end()
    seconds = time.monotonic() - started
    return [row("milliseconds per 1,000 metric points", "ms", 1e6 * seconds / points, 1000.0)]


def measure(root: Path, parts: Sequence[str], quick: bool) -> list[dict[str, Any]]:
    """The rows of the parts, each in a folder of its own below `root`."""
    times = 2 if quick else 5
    for name in parts:
        (root / name).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if "chain" in parts:
        rows += chains(root / "chain", times)
    if "many" in parts:
        rows += many_artifacts(root / "many", 1_000 if quick else 10_000)
    if "log" in parts:
        rows += log_throughput(root / "log")
    if "start" in parts:
        recipe = "sample"
        if quick:
            from tests.flows.tiny import write_recipe

            write_recipe(root / "start")
            recipe = "tiny.yaml"
        rows += start_up(root / "start", recipe, times)
    return rows


def main() -> None:
    """Measure, print a table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a recipe of seconds, fewer turns, a tenth of the artifacts"
    )
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="which measurements; all of them")
    parser.add_argument("--folder", type=Path, help="kept, for one that is made and thrown away")
    parser.add_argument("--json", type=Path, help="where the rows go")
    chosen = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HOUSE), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory() as folder:
        rows = measure((chosen.folder or Path(folder)).absolute(), chosen.part, chosen.quick)
    for entry in rows:
        told = ", ".join(f"{name} {value}" for name, value in entry["peers"].items())
        limit = f"limit {entry['target']:g}" if entry["target"] is not None else told
        mark = {True: "holds", False: "MISSES", None: ""}[entry["holds"]]
        print(f"{entry['metric']:<46} {entry['ours']:>9.3f} {entry['unit']:<3} {limit:<44} {mark}")
    write_rows(rows, chosen.json)


if __name__ == "__main__":
    main()
