"""How fast training is, against its peers: ``python -m bench.training [--quick] [--json FILE]``.

One deepseek_v3 architecture with the same weights throughout, fp32, forward + backward + AdamW, rounds interleaved. One
process with two threads: ours, and transformers with `grouped_mm` and with eager experts. Two processes with one thread
each: ours with the experts split (EP=2) and whole (data parallel), and AutoEP on transformers' model. DeepSpeed's MoE
layer is no peer: it renormalises gates and has no shared experts, so it computes another model. Besides: share of the
machine's fp32 matrix peak, start-up, the loader's share of a step, and how long a checkpoint holds training up.

The model has 13 million parameters, 5.4 of which work on a token: what a CPU can train in minutes. One process is
measured on that of the laptop recipe too, 24 million parameters in matrices twice as wide. Each contender has processes
of its own, and works while the others wait or are not there: ours tells glibc to keep freed memory, of which a peer in
the same process would have the good.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.contender import beside, contend
from bench.table import Row, bench_parser, row, show

if TYPE_CHECKING:
    from model.architecture.config import ModelConfig

STEPS, BATCH, LENGTH = 2, 8, 512
TURNS = 4
"""Steps of a launch that are counted."""
WIDTHS = {"experts split": 2, "data parallel": 1}
"""Ours on two ranks, and how many share the experts."""
MODEL: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "kv_lora_rank": 128,
    "q_lora_rank": None,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
    "v_head_dim": 32,
    "intermediate_size": 1024,
    "moe_intermediate_size": 128,
    "n_routed_experts": 32,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "norm_topk_prob": True,
}


def main() -> None:
    """Measure and print; with ``--json`` write the rows."""
    parser = bench_parser(__doc__, "two rounds instead of five")
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contender:
        name, folder = chosen.contender
        contend(lambda: _contender(name, Path(folder)))
        return
    rounds = 2 if chosen.quick else 5
    rows = [*_small(rounds), *_laptop(rounds), *_two_processes(rounds), *_checkpoints(), *_busy(rounds)]
    show(rows, chosen.json)


def _tokens(step: int) -> Any:
    import torch

    generator = torch.Generator().manual_seed(step)
    return torch.randint(0, MODEL["vocab_size"], (BATCH, LENGTH), generator=generator)


def _interleaved(contenders: dict[str, Callable[[int], object]], rounds: int) -> dict[str, float]:
    """Median tokens/s of each: one unmeasured turn, then rounds of `STEPS` steps in turn."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, step in contenders.items():
            begun = time.perf_counter()
            for turn in range(STEPS):
                step(number * STEPS + turn)
            if number:
                times[name].append(time.perf_counter() - begun)
    return {name: STEPS * BATCH * LENGTH / statistics.median(found) for name, found in times.items()}


def _ours(folder: Path) -> Callable[[int], None]:
    """One optimizer step of ours, by whichever engine the environment asks for."""
    from model.architecture.checkpoint import load_model
    from model.sections import TrainingConfig
    from model.training.batches import TrainingBatch
    from model.training.engine import make_engine

    learned = BATCH * (LENGTH - 1)
    engine = make_engine(load_model(folder), TrainingConfig(batch_size=BATCH, balance_loss=0.0))

    def step(number: int) -> None:
        tokens = _tokens(number)[engine.rank :: engine.world]
        engine.watch.begin(len(tokens))
        (loss,) = engine.losses(TrainingBatch(tokens))
        engine.watch.take_loss()
        engine.backward(loss / learned, last=True)
        engine.step(1e-4)
        engine.watch.finish_step(None, 0.0)

    return step


def _peer(folder: Path, experts: str) -> Callable[[int], None]:
    """The same with transformers' class, its experts computed by `experts`."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, experts_implementation=experts, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, (0.9, 0.95), weight_decay=0.1, fused=True)

    def step(number: int) -> None:
        tokens = _tokens(number)
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _peak() -> float:
    """fp32 matrix peak of this process's threads, FLOP/s: the best of some large products."""
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = 0.0
    for _ in range(8):
        begun = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - begun))
    return best


def _write_model(folder: Path, config: ModelConfig | None = None) -> None:
    """The weights that everybody starts from."""
    import torch

    from model.architecture.checkpoint import save_model
    from model.architecture.config import ModelConfig
    from model.architecture.transformer import Transformer

    torch.manual_seed(0)
    save_model(Transformer(config or ModelConfig.model_validate(MODEL)), folder, None)


def _contender(name: str, folder: Path) -> Callable[[int], None]:
    return _ours(folder) if name == "ours" else _peer(folder, name.split()[-1])


def _small(rounds: int) -> list[Row]:
    from model.architecture.config import ModelConfig

    rows = _one_process(rounds, ModelConfig.model_validate(MODEL), "")
    loading = _loading_seconds()
    share = loading * rows[0]["ours"] / (BATCH * LENGTH)
    return [*rows, row("the loader's share of a step", "", share, {}, 0.01, most=True)]


def _laptop(rounds: int) -> list[Row]:
    from flows.recipe.recipe import load_recipe

    recipe = load_recipe("laptop", [])
    assert recipe.pretrain is not None
    return _one_process(min(rounds, 3), recipe.pretrain.model.with_vocabulary(recipe.tokenizer.vocabulary), ", laptop")


def _one_process(rounds: int, config: ModelConfig, whose: str) -> list[Row]:
    """Speed beside transformers, and the share of the peak, of a model."""
    import torch

    from model.planning.costs import flops_per_token

    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as close:
        folder = Path(scratch)
        _write_model(folder, config)
        names = ("ours", "transformers grouped_mm", "transformers eager")
        found = _interleaved({name: beside("bench.training", name, folder, close) for name in names}, rounds)
        peak = _peak()
    ours = found.pop("ours")
    return [
        row(f"tokens per second, 1 process x 2 threads{whose}", "tokens/s", ours, dict(found), 1.2),
        row(f"share of the fp32 matrix peak{whose}", "", ours * flops_per_token(config, LENGTH) / peak, {}, 0.65),
    ]


def _busy(rounds: int) -> list[Row]:
    """Seconds of a step alone, and while another program has all of one core: as stages run, and as OpenMP's threads
    wait by themselves, which beside the program is one step, for it may take a minute."""
    alone, busy = {}, {}
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as close:
        folder = Path(scratch)
        _write_model(folder)
        settings: dict[str, dict[str, str] | None] = {"ours": None, "threads that spin": {}}
        steps = {name: beside("bench.training", "ours", folder, close, more) for name, more in settings.items()}
        for name, speed in _interleaved(steps, rounds).items():
            alone[name] = BATCH * LENGTH / speed
        other = close.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", "import os\nabove = os.getppid()\nwhile os.getppid() == above: pass"],
                start_new_session=True,
            )
        )
        close.callback(other.kill)
        for name, step in steps.items():
            busy[name] = statistics.median(step(number)["wall"] for number in range(rounds if name == "ours" else 1))
    return [
        row(f"seconds of a step, {where}", "s", found.pop("ours"), dict(found), None, most=True)
        for where, found in (("alone", alone), ("beside a busy program", busy))
    ]


def _loading_seconds() -> float:
    """Median time to load one batch of packed documents from token shards, checksums compared."""
    import random

    import pyarrow as pa
    import pyarrow.parquet as pq

    from model.training.sources import ShardBatches
    from pipeline.sections import ShardsConfig, TokenizerConfig
    from pipeline.tasks.documents import SCHEMA
    from pipeline.tokens.reader import ShardReader
    from pipeline.tokens.shards import shards
    from pipeline.tokens.tokenizer import train_tokenizer

    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(3000)]
    texts = [" ".join(draw.choices(words, k=300)) for _ in range(1500)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        inputs = {"tokenizer": folder / "tokenizer", "decontaminate": folder / "corpus"}
        for made in (folder / "tokenizer", folder / "corpus" / "documents", folder / "shards"):
            made.mkdir(parents=True)
        chosen = train_tokenizer(TokenizerConfig(vocabulary=MODEL["vocab_size"]), iter(texts[::5]))
        chosen.save(str(folder / "tokenizer/tokenizer.json"))
        (folder / "tokenizer/tokenizer_config.json").write_text('{"eos_token": "<|eos|>"}')
        rows = [
            {"id": str(n), "text": text, "source": "web", "url": "", "metadata": "{}"} for n, text in enumerate(texts)
        ]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "corpus/documents/00000.parquet")
        shards(ShardsConfig(sequence_length=LENGTH), inputs, folder / "shards")
        source = ShardBatches(ShardReader(folder / "shards", "train", global_batch=BATCH))
        return statistics.median(_timed(lambda step=step: source.batch(step, 0, 1)) for step in range(40))


def run_rank(argument: dict[str, Any]) -> None:
    """One of two ranks of a contender: a step that is not counted, and some that are; rank 0 writes the seconds."""
    import torch

    torch.set_num_threads(1)
    folder, name = Path(argument["folder"]), argument["name"]
    begun = time.perf_counter()
    if name in WIDTHS:
        os.environ["DEEPMILL_EXECUTION"] = json.dumps({"ranks": 2, "expert_parallel": WIDTHS[name]})
    step = _ours(folder) if name in WIDTHS else _autoep_peer(folder)
    step(0)
    started = time.perf_counter() - begun
    seconds = [_timed(lambda number=number: step(number)) for number in range(1, TURNS + 1)]
    if os.environ["RANK"] == "0":
        (folder / "found.json").write_text(json.dumps({"start_up": started, "seconds": seconds}))
    from model.training.ranks import leave

    leave()


def _autoep_peer(folder: Path) -> Callable[[int], None]:
    """transformers' model with its experts split by DeepSpeed's AutoEP, ZeRO-1."""
    import deepspeed
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    adamw = {"lr": 1e-4, "betas": [0.9, 0.95], "weight_decay": 0.1, "torch_adam": True}
    settings = {
        "train_micro_batch_size_per_gpu": BATCH // 2,
        "gradient_clipping": 1.0,
        "optimizer": {"type": "AdamW", "params": adamw},
        "zero_optimization": {"stage": 1},
        "expert_parallel": {"enabled": True, "autoep_size": 2, "preset_model": "deepseek_v3"},
        "steps_per_print": 1 << 60,
    }
    engine, *_ = deepspeed.initialize(model=model, config=settings)
    rank = int(os.environ["RANK"])

    def step(number: int) -> None:
        tokens = _tokens(number)[rank::2]
        engine.backward(engine(input_ids=tokens, labels=tokens, use_cache=False).loss)
        engine.step()

    return step


def _two_processes(rounds: int) -> list[Row]:
    """The contenders launched in turn, for two sets of ranks at a time would be in each other's way."""
    from infra.launch import launch

    found: dict[str, list[float]] = {name: [] for name in (*WIDTHS, "AutoEP on transformers")}
    start_ups = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write_model(folder)
        for _ in range(rounds):
            for name, seconds in found.items():
                launch("bench.training:run_rank", {"folder": scratch, "name": name}, 2)
                told = json.loads((folder / "found.json").read_text())
                seconds += told["seconds"]
                if name == "experts split":
                    start_ups.append(told["start_up"])
    speeds = {name: BATCH * LENGTH / statistics.median(seconds) for name, seconds in found.items()}
    ep, dp = (speeds.pop(name) for name in WIDTHS)
    return [
        row("tokens per second, 2 processes, experts split", "tokens/s", ep, dict(speeds), 1.2),
        row("experts split against data parallel", "tokens/s", ep, {"data parallel": dp}, 1.0),
        row("start-up to the first step, 2 processes", "s", statistics.median(start_ups), {}, None, most=True),
    ]


def _checkpoints() -> list[Row]:
    """Seconds that a checkpoint of the benched model holds one process up, written at once and in the background."""
    import torch

    from model.architecture.checkpoint import load_model
    from model.sections import TrainingConfig
    from model.training.engine import SingleEngine
    from model.training.snapshots import Snapshots

    torch.set_num_threads(2)
    stalls = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write_model(folder / "model")
        os.environ.pop("DEEPMILL_EXECUTION", None)
        engine = SingleEngine(load_model(folder / "model"), TrainingConfig(batch_size=BATCH))
        tokens = _tokens(0)
        engine.watch.begin(BATCH)
        logits = engine.forward(tokens, None)
        engine.backward(logits.square().mean(), last=True)
        engine.step(1e-4)
        for name, background in (("written at once", False), ("in the background", True)):
            os.environ["DEEPMILL_EXECUTION"] = json.dumps({"checkpoints": {"asynchronous": background}})
            snapshots = Snapshots(folder / name, engine, "bench")
            stalls[name] = statistics.median(_stall(snapshots, step) for step in range(3))
            snapshots.close()
    os.environ.pop("DEEPMILL_EXECUTION", None)
    return [row(f"a checkpoint holds training up, {name}", "s", stall, {}, None) for name, stall in stalls.items()]


def _stall(snapshots: Any, step: int) -> float:
    stall = _timed(lambda: snapshots.begin(step, {}))
    snapshots.finish()
    return stall


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
