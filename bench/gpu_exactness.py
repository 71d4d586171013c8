"""One small training in every layout that one GPU has: the losses of the CPU, the same bits twice, and a resumed run.

Each layout is a process of its own. fp32 layouts must give the CPU's losses; bf16 ones come within its rounding.
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

import torch

from bench.table import Row, row

STEPS, ROWS, LENGTH = 8, 8, 128
MODEL: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "kv_lora_rank": 128,
    "q_lora_rank": None,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "intermediate_size": 512,
    "moe_intermediate_size": 128,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "initializer_range": 0.02,
}
LAYOUTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # name: execution, training
    "one process, fp32": ({"precision": "fp32"}, {}),
    "one process": ({}, {}),
    "again": ({}, {}),
    "resumed": ({}, {}),
    "micro-batches": ({}, {"micro_batch": 4}),
    "recomputed": ({"recompute": True}, {}),
    "compiled": ({"compile": True}, {}),
    "DeepSpeed, ZeRO 0": ({"engine": "deepspeed", "zero": 0}, {}),
    "DeepSpeed, ZeRO 1": ({"engine": "deepspeed", "zero": 1}, {}),
    "DeepSpeed, ZeRO 2": ({"engine": "deepspeed", "zero": 2}, {}),
    "DeepSpeed, ZeRO 3": ({"engine": "deepspeed", "zero": 3}, {}),
    "DeepSpeed, ZeRO 1 resumed": ({"engine": "deepspeed", "zero": 1}, {}),
    "flash2": ({"attention": "flash2"}, {}),
    "flash2 again": ({"attention": "flash2"}, {}),
    "flash3": ({"attention": "flash3"}, {}),
    "flash3 again": ({"attention": "flash3"}, {}),
    "DeepSpeed, optimizer on the CPU": ({"engine": "deepspeed", "zero": 2, "offload": True}, {}),
}
PAIRS = {
    "again": "one process",
    "resumed": "one process",
    "DeepSpeed, ZeRO 1 resumed": "DeepSpeed, ZeRO 1",
    "flash2 again": "flash2",
    "flash3 again": "flash3",
}
"""Layouts that must give another's bits."""
WIDTH = MODEL["qk_nope_head_dim"] + MODEL["qk_rope_head_dim"]
TOLERANCES = {"fp32": 1e-4, "bf16": 2e-2}
"""Largest difference of any step's loss from the CPU's."""
BESIDE = 7
"""Layouts at once: nothing is timed here."""


class _StoppedError(Exception):
    pass


class _Batches:
    """Packed rows of drawn tokens, the same at every call."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop

    def batch(self, step: int, rank: int, world: int) -> Any:
        from model.training.batches import TrainingBatch

        if step == self.stop:
            raise _StoppedError
        generator = torch.Generator().manual_seed(step)
        # squares of uniform numbers: something to learn in a few steps
        tokens = (torch.rand(ROWS, LENGTH, generator=generator).square() * MODEL["vocab_size"]).long()
        documents = (torch.rand(ROWS, LENGTH, generator=generator) < 4 / LENGTH).long().cumsum(1)
        return TrainingBatch(tokens[rank::world], documents[rank::world])


def measure(device: torch.device, quick: bool) -> list[Row]:
    """All layouts, each against the CPU's losses."""
    names = list(LAYOUTS)[:4] if device.type == "cpu" else [name for name in LAYOUTS if _can_run(name, device)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        waiting = [("the CPU", ""), *((name, device.type) for name in names)]
        running: list[tuple[str, subprocess.Popen[str]]] = []
        told: dict[str, str] = {}
        while waiting or running:
            while waiting and len(running) < BESIDE:
                name, kind = waiting.pop(0)
                running.append((name, _start(name, kind, folder, len(waiting))))
            name, process = running.pop(0)
            told[name] = process.communicate()[0]
        rows = []
        reference = json.loads((folder / "the CPU.json").read_text())
        for name in names:
            path = folder / f"{name}.json"
            if not path.exists():
                print(f"{name}: no result\n" + told[name][-3000:])
                rows.append(row(f"{name}: it ran", "", 0.0, {}, 1.0))
                continue
            found = json.loads(path.read_text())
            is_exact = LAYOUTS[name][0].get("precision") == "fp32" or device.type == "cpu"
            far = max(abs(a - b) for a, b in zip(found["losses"], reference["losses"], strict=True))
            most = TOLERANCES["fp32" if is_exact else "bf16"]
            rows.append(row(f"{name}: largest difference of a loss from the CPU's", "nats", far, {}, most, most=True))
        for name, other in PAIRS.items():
            pair = [folder / f"{each}.json" for each in (name, other)]
            if all(path.exists() for path in pair):
                is_same = pair[0].read_text() == pair[1].read_text()
                rows.append(row(f"{name}: losses and weights of '{other}', bit for bit", "", float(is_same), {}, 1.0))
    return rows


def _can_run(name: str, device: torch.device) -> bool:
    """Whether this GPU has the kernel of attention that the layout asks for, by its package; why not is printed."""
    from model.architecture.varlen import Kernel, why_not

    if not (wanted := LAYOUTS[name][0].get("attention")):
        return True
    reason = why_not(Kernel(wanted), torch.cuda.get_device_capability(device), True, WIDTH)
    if reason:
        print(f"{name}: {reason}")
    return reason is None


def _start(name: str, kind: str, folder: Path, number: int) -> subprocess.Popen[str]:
    environment = os.environ | {"MASTER_PORT": str(29600 + number), "OMP_NUM_THREADS": "2"}
    if kind != "cuda":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "bench.gpu_exactness", name, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def main() -> None:
    """One layout, in this process: ``python -m bench.gpu_exactness NAME FOLDER``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    execution, training = LAYOUTS.get(chosen.name, ({}, {}))
    resumes = "resumed" in chosen.name
    often = {"checkpoints": {"seconds": 0, "keep": 1}} if resumes else {}
    os.environ["DEEPMILL_EXECUTION"] = json.dumps(often | execution)
    if resumes:
        _train(chosen.name, chosen.folder, training, stop=STEPS // 2)
    result = _train(chosen.name, chosen.folder, training)
    assert result is not None
    sums = {name: value.double().sum().item() for name, value in result.model.state_dict().items()}
    found = {"losses": [entry["loss"] for entry in result.history], "weights": sums}
    (chosen.folder / f"{chosen.name}.json").write_text(json.dumps(found))


def _train(name: str, folder: Path, training: dict[str, Any], stop: int | None = None) -> Any:
    from model.architecture.config import ModelConfig
    from model.architecture.transformer import Transformer
    from model.sections import TrainingConfig
    from model.training.next_token import train

    torch.manual_seed(0)
    transformer = Transformer(ModelConfig.model_validate(MODEL))
    config = TrainingConfig(steps=STEPS, batch_size=ROWS, learning_rate=1e-3, warmup_steps=2, **training)
    try:
        return train(transformer, _Batches(stop), config, folder / f"{name} snapshots")
    except _StoppedError:
        return None


if __name__ == "__main__":
    main()
