"""The project's studies at the scale of one GPU: ``python -m bench.study experts balance --store DIR [--json FILE]``.

The arms of `flows/study/studies` with wider layers and some twenty times the tokens, every arm with every seed, as many
at once as the device can feed. The trials' pretraining stage is called as the flow calls it, over token shards that a
run has left in the store `DIR`. Printed are the validation losses by seed and the difference to the baseline with its
95 % interval, as on the page that `deepmill study` makes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from flows.study.study import Contrast, Study, Trial, contrast, load_study, trials

LAYERS = 6
SETTINGS: dict[str, Any] = {
    "tokenizer.vocabulary": 8192,
    "shards.sequence_length": 512,
    "pretrain.batch_size": 64,
    "pretrain.learning_rate": 1.5e-3,
    "pretrain.validation_sequences": 768,
}
SHAPE = {"hidden_size": 256, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 1024}
WIDER = 4
"""Times as wide as in the study's file are the experts."""
LATENT = {"kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64}
"""Of the arms with latent attention."""


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="+", help="names of studies")
    parser.add_argument("--store", type=Path, required=True, help="holds one artifact of `shards` and of `tokenizer`")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--beside", type=int, default=8, help="trials at once")
    parser.add_argument("--json", type=Path, help="where the losses go")
    parser.add_argument("--trial", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.trial:
        _train(json.loads(chosen.trial))
        return
    inputs = {name: str(next((chosen.store / name).glob("*/manifest.json")).parent) for name in ("shards", "tokenizer")}
    studies = [scaled(load_study(name), chosen.steps, chosen.seeds) for name in chosen.studies]
    waiting = [(study, trial) for study in studies for trial in trials(study)]
    begun = time.perf_counter()
    found: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        running: list[tuple[Study, Trial, Path, subprocess.Popen[bytes]]] = []
        while waiting or running:
            while waiting and len(running) < chosen.beside:
                study, trial = waiting.pop(0)
                out = Path(scratch) / trial.recipe.name
                running.append((study, trial, out, _start(trial, inputs, out, chosen)))
            time.sleep(0.2)
            for entry in [each for each in running if each[3].poll() is not None]:
                running.remove(entry)
                study, trial, out, _ = entry
                result = json.loads((out / "result.json").read_text())
                found.setdefault(study.name, {}).setdefault(trial.arm, {})[trial.seed] = result
                print(f"{time.perf_counter() - begun:5.0f} s  {trial.recipe.name}  {result}", flush=True)
                if chosen.json:
                    chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    for study in studies:
        print(f"\n{study.name}: {study.description}")
        losses = {arm: {s: one["loss"] for s, one in seeds.items()} for arm, seeds in found[study.name].items()}
        for compared in contrast(study, losses):
            print(_line(compared, found[study.name][compared.arm]))


def scaled(study: Study, steps: int, seeds: int) -> Study:
    """The same question at the scale of this file."""
    small: dict[str, Any] = study.settings["pretrain.model"]
    has_latents = "kv_lora_rank" in small
    shape = {**small, **SHAPE, **(LATENT if has_latents else {})}
    if has_latents:
        shape["moe_intermediate_size"] = WIDER * small["moe_intermediate_size"]
    settings = SETTINGS | {
        "pretrain.steps": steps,
        "pretrain.warmup_steps": steps // 20,
        "pretrain.validate_every": steps,
        "pretrain.model": shape,
    }
    scale = {"moe_intermediate_size": WIDER, "first_k_dense_replace": LAYERS // small["num_hidden_layers"]}
    arms = {
        name: {key: value * scale.get(key.removeprefix("pretrain.model."), 1) for key, value in arm.items()}
        if not has_latents
        else arm
        for name, arm in study.arms.items()
    }
    values = study.model_dump() | {"settings": study.settings | settings, "arms": arms, "seeds": tuple(range(seeds))}
    return Study.model_validate(values)


def _start(trial: Trial, inputs: dict[str, str], out: Path, chosen: Any) -> subprocess.Popen[bytes]:
    assert trial.recipe.pretrain is not None
    config = trial.recipe.pretrain.model_dump(mode="json")
    job = json.dumps({"config": config, "inputs": inputs, "out_dir": str(out)})
    command = [sys.executable, "-m", "bench.study", "-", "--store", str(chosen.store), "--trial", job]
    (out / ".work").mkdir(parents=True)
    with (out / "log").open("wb") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )


def _train(job: dict[str, Any]) -> None:
    from model.sections import PretrainConfig
    from model.training.pretrain import pretrain

    out = Path(job["out_dir"])
    inputs = {name: Path(folder) for name, folder in job["inputs"].items()}
    metrics = pretrain(PretrainConfig.model_validate(job["config"]), inputs, out)
    result = {
        "loss": metrics.loss_after,
        "tokens": metrics.tokens,
        "tokens_per_second": metrics.tokens_per_second,
        "busiest_expert": max((load.max for load in (metrics.expert_load or {}).values()), default=None),
    }
    (out / "result.json").write_text(json.dumps(result))


def _line(entry: Contrast, by_seed: dict[int, dict[str, Any]]) -> str:
    losses = ", ".join(f"{value:.4f}" for value in entry.values)
    busiest = [one["busiest_expert"] for one in by_seed.values() if one["busiest_expert"]]
    load = f"busiest expert {sum(busiest) / len(busiest):.2f} x" if busiest else ""
    return (
        f"{entry.arm:<16} {losses}   mean {entry.mean:.4f}   {entry.difference:+.4f} ± {entry.half_width:.4f}"
        f"   {entry.wins} of {len(entry.values)}   {entry.verdict}   {load}"
    )


if __name__ == "__main__":
    main()
