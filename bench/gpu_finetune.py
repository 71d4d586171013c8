"""Fine-tuning and reinforcement on a GPU: the stages `sft` and `grpo` beside themselves on the CPU, and their speed.

Every training is the stage itself in a process of its own, from the same weights, problems and seed. In fp32 losses and
rewards must be the CPU's to four digits. Samples can be compared because the stage draws its random numbers on the host
and inverts a distribution that both compute: until a near-tie falls out differently, both write the same answers, and
what is compared is what they learn from these. A training that was killed must end with the bytes of one that was not.
Speed, beside TRL and a plain loop of transformers, is `bench.gpu_finetune_speed`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bench.gpu_problems import write_problems
from bench.table import Row, print_table, row

MODEL: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "kv_lora_rank": 64,
    "q_lora_rank": None,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "intermediate_size": 256,
    "moe_intermediate_size": 64,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "initializer_range": 0.02,
}
SFT: dict[str, Any] = {
    "steps": 24,
    "batch_size": 8,
    "sequence_length": 128,
    "learning_rate": 1e-3,
    "warmup_steps": 4,
    "spike_factor": 100,
    "validation_sequences": 8,
    "validate_every": 8,
    "accuracy_tasks": 0,
}
START = SFT | {"steps": 120, "batch_size": 4, "validation_sequences": 4, "learning_rate": 3e-3, "validate_every": 0}
"""What reinforcement begins with: a model that has learned the form of an answer, and some of the sums."""
GRPO: dict[str, Any] = {
    "steps": 6,
    "questions": 8,
    "group_size": 8,
    "minibatches": 2,
    "max_new_tokens": 24,
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "format_reward": 0.2,
    "programs": False,
    "accuracy_tasks": 32,
    "validate_every": 3,
    "collapse_below": 0.0,
}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    # name: stage, device ("" for the CPU), execution
    "sft on the CPU": ("sft", "", {"precision": "fp32"}),
    "sft, fp32": ("sft", "gpu", {"precision": "fp32"}),
    "sft": ("sft", "gpu", {}),
    "sft, killed": ("sft", "gpu", {"checkpoints": {"seconds": 0, "keep": 1}}),
    "start": ("start", "", {"precision": "fp32"}),
    "grpo on the CPU": ("grpo", "", {"precision": "fp32"}),
    "grpo, fp32": ("grpo", "gpu", {"precision": "fp32"}),
    "grpo": ("grpo", "gpu", {}),
    "grpo, killed": ("grpo", "gpu", {"checkpoints": {"seconds": 0, "keep": 1}}),
}
WATCHED = {"sft": ("loss", "grad_norm"), "grpo": ("reward", "accuracy", "loss", "kl", "entropy", "length")}
TOLERANCES = {"fp32": 1e-4, "bf16": 2e-2}
"""Largest difference of any step's loss or reward from the CPU's."""


def measure(device: torch.device, quick: bool) -> list[Row]:
    """Exactness, then speed; what fails is told, and the rest is measured all the same."""
    from bench.gpu_finetune_speed import reinforcement, supervised

    rows: list[Row] = []
    parts: dict[str, Callable[[], list[Row]]] = {
        "exactness": lambda: exactness(device),
        "sft speed": lambda: supervised(device, quick),
        "grpo speed": lambda: reinforcement(device, quick),
    }
    for name, part in parts.items():
        try:
            found = part()
        except Exception:  # the other parts are worth having
            traceback.print_exc()
            found = [row(f"{name}: it ran", "", 0.0, {}, 1.0)]
        print_table(found)
        sys.stdout.flush()
        rows += found
    return rows


def exactness(device: torch.device) -> list[Row]:
    """Both stages on the GPU against the CPU."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        told: dict[str, str] = {}
        for stages in (("sft", "start"), ("grpo",)):  # reinforcement begins where `start` ends
            running = {name: _start(name, device, folder) for name, case in CASES.items() if case[0] in stages}
            told |= {name: process.communicate()[0] for name, process in running.items()}
        rows = []
        for name in CASES:
            if not (folder / name / "history.json").exists():
                print(f"{name}: no result\n{told[name][-3000:]}")
                rows.append(row(f"{name}: it ran", "", 0.0, {}, 1.0))
        for name, (stage, where, execution) in CASES.items():
            pair = [folder / other for other in (name, f"{stage} on the CPU")]
            if where and "killed" not in name and all((each / "history.json").exists() for each in pair):
                is_exact = execution.get("precision") == "fp32" or device.type == "cpu"
                rows += compared(name, stage, *pair, TOLERANCES["fp32"] if is_exact else None)
        for stage in ("sft", "grpo"):
            pair = [folder / name for name in (f"{stage}, killed", stage)]
            if all((each / "history.json").exists() for each in pair):
                is_same = _bytes(pair[0]) == _bytes(pair[1])
                rows.append(row(f"{stage}, killed and resumed: every byte of the whole run", "", is_same, {}, 1.0))
        return rows


def compared(name: str, stage: str, mine: Path, reference: Path, most: float | None) -> list[Row]:
    """Largest differences of what `WATCHED` names, over the steps in which both saw the same; `most`: of them that are
    to be the CPU's, else they are only told."""
    steps, other = (json.loads((each / "history.json").read_text())["steps"] for each in (mine, reference))
    alike = len(steps)
    rows = []
    if stage == "grpo":
        alike = next((n for n, (a, b) in enumerate(zip(steps, other, strict=True)) if _said(a) != _said(b)), alike)
        rows.append(row(f"{name}: steps before an answer is another", f"of {len(steps)}", alike, {}, None))
    for key in WATCHED[stage]:
        # gradient norms are no loss; how far they are is worth knowing
        target = most if key != "grad_norm" else None
        far = max((abs(a[key] - b[key]) for a, b in list(zip(steps, other, strict=True))[:alike]), default=float("nan"))
        entry = row(
            f"{name}: {key}, largest difference from the CPU's in {alike} steps", "", far, {}, target, most=True
        )
        rows.append(entry | {"ours": far})  # unrounded: four digits are asked for
    return rows


def _said(step: Mapping[str, float]) -> tuple[float, ...]:
    """What differs as soon as one answer does."""
    return tuple(step[name] for name in ("length", "distinct", "finished", "format", "accuracy"))


def _bytes(artifact: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(artifact)): path.read_bytes()
        for path in sorted(artifact.rglob("*"))
        if path.is_file() and ".work" not in path.parts
    }


def prepare(folder: Path) -> None:
    """A vocabulary, problems and the weights to start from."""
    from model.architecture.checkpoint import save_model
    from model.architecture.config import ModelConfig
    from model.architecture.transformer import Transformer

    tokenizer = write_problems(folder)
    torch.manual_seed(0)
    model = Transformer(ModelConfig.model_validate(MODEL | {"vocab_size": tokenizer.get_vocab_size()}))
    save_model(model, folder / "random" / "model", folder / "tokenizer")


def _start(name: str, device: torch.device, folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    if not CASES[name][1] or device.type == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "bench.gpu_finetune", name, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def main() -> None:
    """One case, in this process: ``python -m bench.gpu_finetune CASE FOLDER``. What is to be killed starts first."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dying", action="store_true")
    chosen = parser.parse_args()
    stage, _, execution = CASES[chosen.name]
    if "killed" in chosen.name and not chosen.dying:
        again = [sys.executable, "-m", "bench.gpu_finetune", chosen.name, str(chosen.folder), "--dying"]
        if subprocess.run(again, check=False).returncode != -signal.SIGKILL:
            raise SystemExit("the run that was to be killed was not")
    os.environ["DEEPMILL_EXECUTION"] = json.dumps(execution)
    if chosen.dying:
        _die_at({"sft": 13, "grpo": 7}[stage])
    run_stage(stage, chosen.name, chosen.folder)


def _die_at(step: int) -> None:
    """Have this process killed before its optimizer makes that step."""
    from model.training.engine import SingleEngine

    whole, made = SingleEngine.step, iter(range(1 << 30))

    def counted(engine: SingleEngine, rate: float) -> torch.Tensor:
        if next(made) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(engine, rate)

    SingleEngine.step = counted  # type: ignore[method-assign]


def run_stage(stage: str, name: str, folder: Path) -> None:
    """The stage's own function on what `prepare` wrote."""
    from model.finetune_sections import GrpoConfig, SftConfig
    from model.rl.grpo import grpo
    from model.training.sft import sft

    inputs = {each: folder / each for each in ("tokenizer", "reasoning")}
    out = folder / name
    if stage == "grpo":
        grpo(GrpoConfig.model_validate(GRPO), inputs | {"start": folder / "start"}, out)
    else:
        sft(SftConfig.model_validate(START if stage == "start" else SFT), inputs | {"start": folder / "random"}, out)


if __name__ == "__main__":
    main()
