"""A ladder packed onto one machine: ``python -m bench.ladder FILE --store DIR [--seconds N] [--beside N] --json OUT``.

`flows.study.ladder` says which trials are wanted; here they run many at once in worker processes that load torch once,
over the token shards that a run has left in the store `DIR`. It is how a GPU is filled with models too small for it.
What was measured is in OUT after every trial, and a second call goes on from there; ``--page FILE`` writes the page
that `deepmill study` would.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.study.ladder import Ladder, LadderTrial, Measured, recipe_of, wanted
from flows.study.study import read_study
from infra.errors import UserError


def main() -> None:
    """Climb until there is nothing left to climb, or no time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ladder", help="name of a ladder, or a YAML file")
    parser.add_argument("--store", type=Path, help="holds one artifact of `shards` and of `tokenizer`")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="nothing runs for longer")
    parser.add_argument("--beside", type=int, default=8, help="trials at once")
    parser.add_argument("--json", type=Path, required=True, help="where the measurements are")
    parser.add_argument("--page", type=Path, help="where the page goes")
    chosen = parser.parse_args()
    if chosen.page and chosen.page.with_suffix(".json") == chosen.json:
        parser.error("the page's numbers would be written over the measurements: give --page another name")
    ladder = read_study(chosen.ladder, Ladder)
    results = read_results(chosen.json)
    if chosen.store:
        climb(ladder, results, chosen)
    if chosen.page:
        from flows.study.ladder_report import write_ladder

        try:
            print(write_ladder(ladder, results, chosen.page))
        except UserError as error:
            raise SystemExit(str(error)) from None


def read_results(path: Path) -> dict[LadderTrial, Measured]:
    """What an earlier call measured."""
    rows = json.loads(path.read_text()) if path.exists() else []
    return {LadderTrial(**row["trial"]): Measured(**row["measured"]) for row in rows}


def climb(ladder: Ladder, results: dict[LadderTrial, Measured], chosen: argparse.Namespace) -> None:
    """Run what is wanted, `chosen.beside` at a time, until it is done or the time is up."""
    inputs = {name: str(next((chosen.store / name).glob("*/manifest.json")).parent) for name in ("shards", "tokenizer")}
    begun = time.perf_counter()
    running: dict[LadderTrial, Any] = {}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as scratch, multiprocessing.get_context("spawn").Pool(chosen.beside) as pool:
        while time.perf_counter() - begun < chosen.seconds:
            free = chosen.beside - len(running)
            for trial in [each for each in wanted(ladder, results) if each not in running][: max(0, free)]:
                config = recipe_of(ladder, trial).pretrain
                assert config is not None
                out = Path(scratch) / str(len(results) + len(running)) / f"{trial.arm}-{time.monotonic_ns()}"
                running[trial] = pool.apply_async(_train, (config.model_dump(mode="json"), inputs, str(out)))
            if not running:
                break
            time.sleep(0.1)
            for trial in [each for each, job in running.items() if job.ready()]:
                results[trial] = Measured(**running.pop(trial).get())
                rows = [{"trial": asdict(each), "measured": asdict(found)} for each, found in results.items()]
                chosen.json.write_text(json.dumps(rows, indent=1) + "\n")
                print(f"{time.perf_counter() - begun:5.0f} s  {trial}  {results[trial]}", flush=True)
        if running:
            print(f"the time is up; not finished: {sorted(running)}")
        pool.terminate()


def _train(config: dict[str, Any], inputs: dict[str, str], out: str) -> dict[str, float | None]:
    from flows.study.ladder import measured_of
    from model.sections import PretrainConfig
    from model.training.pretrain import pretrain

    (Path(out) / ".work").mkdir(parents=True)
    folders = {name: Path(folder) for name, folder in inputs.items()}
    found = measured_of(pretrain(PretrainConfig.model_validate(config), folders, Path(out)))
    shutil.rmtree(out)  # hundreds of models that nobody asks for
    return asdict(found)


if __name__ == "__main__":
    main()
