"""Quality against size and speed, at equal training compute: ``python -m bench.frontier [--quick] [--folder DIR]``.

For files of 8, 16 and 32 MB in 4 bits: a dense model (Llama, as DeepSeek-LLM), a mixture of experts (as DeepSeek-V3),
and a mixture a third larger that `quantize.prune` brings to the same size (25 % of its experts by REAP, 100 steps of
healing beyond the budget). All three of a size are trained on the same text with the same compute, `--tokens` of the
mixture's; a mixture does less work for a token, so it reads more of them. Stages are the project's own, and a training
takes a GPU where there is one.

Per model: bytes of the 4-bit GGUF file, bits per byte and share of right next tokens on held-out text (of the 4-bit
weights), tokens per second that llama.cpp writes, processor seconds per token on one thread, and instructions retired
per token where the machine counts them (``perf``), as a stand-in for joules.

Marks, written before any run: at every size the mixture has at most the dense model's bits per byte, and at equal
quality at least 1.5 times its speed. The folder keeps what was made: a run that was cut goes on, and a training that
gets SIGTERM resumes where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.table import Row, bench_parser, print_table, row
from model.architecture.config import Family, ModelConfig, count_parameters
from model.planning.costs import flops_per_token
from model.sections import PretrainConfig, PruneConfig, QuantizeConfig, Schedule

__all__ = ["main"]

KINDS = ("dense", "mixture", "pruned")
DECODED = (32, 160)
"""Tokens written by the two decodings whose difference counts."""


@dataclass(frozen=True)
class Text:
    """How much of it there is, and how it is cut."""

    source_bytes: int
    """Of each kind."""
    length: int
    """Tokens of a row."""
    vocabulary: int
    tasks: int


TEXT = Text(source_bytes=8_000_000, length=256, vocabulary=4096, tasks=400)
QUICK = Text(source_bytes=80_000, length=128, vocabulary=512, tasks=40)


@dataclass(frozen=True)
class Rung:
    """The three models of a file size, by their widths."""

    megabytes: int
    dense: tuple[int, int, int]
    """Hidden size, layers, width of the feed-forward layers."""
    mixture: tuple[int, int, int, int]
    """Hidden size, layers (the first of them dense), width of an expert, routed experts."""


RUNGS = (
    Rung(8, dense=(384, 6, 1056), mixture=(256, 5, 128, 24)),
    Rung(16, dense=(512, 8, 1280), mixture=(320, 6, 160, 27)),
    Rung(32, dense=(640, 10, 1792), mixture=(384, 7, 192, 36)),
)
TINY = (Rung(1, dense=(64, 2, 96), mixture=(64, 2, 32, 6)),)


def architecture(rung: Rung, kind: str) -> ModelConfig:
    """The model that is trained; of `pruned` the one that a quarter of the experts is still to be taken from."""
    shared: dict[str, Any] = {"initializer_range": 0.02, "max_position_embeddings": 1024}
    if kind == "dense":
        hidden, layers, width = rung.dense
        return ModelConfig(
            model_type=Family.LLAMA,
            hidden_size=hidden,
            num_hidden_layers=layers,
            intermediate_size=width,
            num_attention_heads=hidden // 64,
            **shared,
        )
    hidden, layers, width, experts = rung.mixture
    return ModelConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        kv_lora_rank=128,
        intermediate_size=3 * hidden,
        moe_intermediate_size=width,
        num_experts_per_tok=4,
        n_routed_experts=experts if kind == "mixture" else experts * 4 // 3,
        **shared,
    )


def training(rung: Rung, kind: str, tokens: int, text: Text, batch: int) -> PretrainConfig:
    """As many steps as the compute of `tokens` of the rung's mixture pays for."""
    model = architecture(rung, kind)
    whole, ours = (
        flops_per_token(each.with_vocabulary(text.vocabulary), text.length)
        for each in (architecture(rung, "mixture"), model)
    )
    steps = max(2, round(tokens * whole / ours / (batch * text.length)))
    return PretrainConfig(
        model=model,
        steps=steps,
        batch_size=batch,
        micro_batch=0,
        learning_rate=1.5e-3,
        schedule=Schedule.COSINE,
        warmup_steps=min(50, max(1, steps // 10)),
        bias_update_speed=0.005,
        decayed="matrices",
        validation_sequences=64,
    )


def main() -> None:
    """Measure what is wanted, print a table, keep the points in the folder and, with ``--json``, the rows."""
    parser = bench_parser(__doc__, "one tiny size: does it run, not what it shows")
    parser.add_argument("--rung", type=int, action="append", help="a file size in MB, may be repeated; all by default")
    parser.add_argument("--tokens", type=int, default=24_000_000, help="that the mixture is trained on")
    parser.add_argument("--batch", type=int, default=32, help="rows of a training step; a GPU wants 128")
    parser.add_argument("--folder", type=Path, help="where models and points are kept")
    parser.add_argument("--train", action="store_true", help="train what is not there, and measure nothing")
    parser.add_argument("--again", action="store_true", help="measure the speed of all models again")
    parser.add_argument("--pictures", type=Path, help="folder that the plots go to")
    parser.add_argument("--decode", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.decode:
        _decode(Path(chosen.decode[0]), int(chosen.decode[1]))
        return
    rungs = [rung for rung in (TINY if chosen.quick else RUNGS) if not chosen.rung or rung.megabytes in chosen.rung]
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench((chosen.folder or Path(scratch)).absolute(), chosen.tokens, chosen.batch, quick=chosen.quick)
        for rung in rungs:
            for kind in KINDS:
                if chosen.train:
                    bench.train(rung, kind)
                else:
                    bench.measure(rung, kind, again=chosen.again)
        points = list(bench.points.values())
    rows = rows_of(points)
    print_table(rows)
    if chosen.json:
        chosen.json.write_text(json.dumps({"rows": rows, "points": points}, indent=2) + "\n", encoding="utf-8")
    for name, drawn in (pictures(points) if chosen.pictures else {}).items():
        (chosen.pictures / name).write_text(drawn, encoding="utf-8")


class Bench:
    """What was made and measured, in a folder."""

    def __init__(self, folder: Path, tokens: int, batch: int, *, quick: bool) -> None:
        self.folder, self.batch, self.quick = folder, batch, quick
        self.tokens = 8_000 if quick else tokens
        self.scale = QUICK if quick else TEXT
        folder.mkdir(parents=True, exist_ok=True)
        self._kept = folder / "points.json"
        self.points: dict[str, dict[str, Any]] = json.loads(self._kept.read_text()) if self._kept.exists() else {}
        self.made = text_of(self.scale, folder / "text")

    def measure(self, rung: Rung, kind: str, *, again: bool) -> None:
        """One model, unless its point is there."""
        name = self._name(rung, kind)
        if name not in self.points:
            folder = self.folder / name
            trained = self.train(rung, kind)
            quantized = self._quantize(kind, folder)
            self.points[name] = {"kind": kind, "megabytes": rung.megabytes} | trained | self._judged(quantized, folder)
            self._keep()
        if again or "tokens_per_second" not in self.points[name]:
            self.points[name] |= decoding(self.folder / name / "model-q4_0.gguf")
            self._keep()

    def _name(self, rung: Rung, kind: str) -> str:
        return f"{rung.megabytes}-{kind}-{self.tokens // 1000}k"

    def _keep(self) -> None:
        self._kept.write_text(json.dumps(self.points, indent=2) + "\n", encoding="utf-8")

    def train(self, rung: Rung, kind: str) -> dict[str, Any]:
        """Train a model, unless it is there; what that took.

        Raises:
            SystemExit: 143, after SIGTERM; it goes on from there.
        """
        from model.architecture.checkpoint import load_config
        from model.training.pretrain import pretrain

        folder = self.folder / self._name(rung, kind) / "trained"
        config = training(rung, kind, self.tokens, self.scale, self.batch)
        if not (folder / "model" / "model.safetensors").exists():
            folder.mkdir(parents=True, exist_ok=True)
            started = time.monotonic()
            pretrain(config, self.made, folder)
            _say(f"{folder.parent.name}: {config.steps} steps in {time.monotonic() - started:.0f} s")
        made = load_config(folder / "model")
        tokens = config.steps * self.batch * self.scale.length
        return {
            "training_tokens": tokens,
            "training_flops": tokens * flops_per_token(made, self.scale.length),
            "parameters_trained": count_parameters(made),
        }

    def _quantize(self, kind: str, folder: Path) -> Path:
        from model.release.quantize import quantize

        out = folder / "quantized"
        if not (out / "quantization.json").exists():
            out.mkdir(exist_ok=True)
            steps = 4 if self.quick else 100
            config = QuantizeConfig(
                calibration_sequences=8 if self.quick else 64,
                evaluation_sequences=8,
                accuracy_problems=0,
                reasoning_share=0.1,
                prune=PruneConfig(share=0.25, heal_steps=steps) if kind == "pruned" else PruneConfig(),
            )
            started = time.monotonic()
            quantize(config, self.made | {"model": folder / "trained"}, out)
            _say(f"{folder.name}: quantized in {time.monotonic() - started:.0f} s")
        return out

    def _judged(self, quantized: Path, folder: Path) -> dict[str, Any]:
        from model.facts.release import checkpoint_of
        from model.release.gguf import write_gguf
        from model.release.quantized import load_quantized, read_units
        from model.release.verify import check_runs
        from pipeline.tokens.chat import read_tokenizer

        config, stored = read_units(quantized / "int4")
        path = folder / "model-q4_0.gguf"
        write_gguf(path, config, stored, self.made["tokenizer"], name=folder.name)
        whole = _load(checkpoint_of(folder / "trained", quantized))
        divergence = check_runs(path, whole, read_tokenizer(self.made["tokenizer"]))
        full, four = (self._quality(model) for model in (whole, load_quantized(quantized / "int4")))
        return {
            "bytes": path.stat().st_size,
            "parameters": count_parameters(config),
            "active_parameters": count_parameters(config, active=True),
            "bits_per_byte": four[0],
            "accuracy": four[1],
            "bits_per_byte_f32": full[0],
            "llama_cpp_divergence": divergence,
        }

    def _quality(self, model: Any) -> tuple[float, float]:
        """Bits per byte, and the share of right next tokens, on held-out rows."""
        import torch

        from model.release.divergence import counted
        from model.release.rows import cut, text_rows
        from model.training.sources import token_bytes
        from model.training.text_loss import TextLoss

        sizes, total, right = token_bytes(self.made["tokenizer"]), TextLoss(), 0
        for part in cut(text_rows(self.made["shards"], "validation", 8 if self.quick else 256, 0), 8):
            mask = counted(part)
            with torch.no_grad():
                logits = model.lm_head(model.hidden(part.tokens_BT, part.documents_BT)[:, :-1][mask]).float()
            targets_n = part.tokens_BT[:, 1:][mask]
            nats = torch.nn.functional.cross_entropy(logits, targets_n, reduction="sum")
            right += int((logits.argmax(-1) == targets_n).sum())
            total += TextLoss(float(nats), len(targets_n), int(sizes[targets_n].sum()))
        return total.bits_per_byte, right / total.tokens


def text_of(scale: Text, folder: Path) -> dict[str, Path]:
    """Tokenizer, shards and tasks; where they lie in the folder already, nothing of what makes them is needed."""
    made = {name: folder / name for name in ("reasoning", "decontaminate", "tokenizer", "shards")}
    if all((each / "done").exists() for each in made.values()):
        return made
    from bench.release_model import Scale, make_text

    sizes = {"source_bytes": scale.source_bytes, "length": scale.length, "vocabulary": scale.vocabulary}
    return make_text(Scale(**sizes, tasks=scale.tasks, steps=0, batch=0, layers=0, expert=0), folder, _say)


def _load(folder: Path) -> Any:
    from model.architecture.checkpoint import load_model

    return load_model(folder).requires_grad_(False)


def _say(line: str) -> None:
    print(line, flush=True)


# -- speed -----------------------------------------------------------------------------------------------------------


def decoding(path: Path) -> dict[str, float | None]:
    """Tokens per second, processor seconds and instructions per token, of llama.cpp on one thread: the difference of a
    long and a short answer, each by a process of its own; the least of three."""
    found = [[_child(path, tokens) for tokens in DECODED] for _ in range(3)]
    more = DECODED[1] - DECODED[0]
    instructions = [(long[2] - short[2]) / more for short, long in found if long[2] and short[2]]
    return {
        "tokens_per_second": max(long[0] for _, long in found),
        "cpu_seconds_per_token": min(long[1] for _, long in found),
        "instructions_per_token": min(instructions) if instructions else None,
    }


def _child(path: Path, tokens: int) -> tuple[float, float, float | None]:
    """Tokens per second and processor seconds per token while decoding, and all instructions of the process."""
    command = [sys.executable, "-m", "bench.frontier", "--decode", str(path), str(tokens)]
    with tempfile.NamedTemporaryFile("r") as counts:
        counter = ["perf", "stat", "-x", ",", "-e", "instructions:u", "-o", counts.name, "--"]
        try:
            done = subprocess.run([*counter, *command], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):  # no perf, or not allowed here
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        counted = [line.split(",")[0] for line in counts.read().splitlines() if "instructions" in line]
    speed, seconds = map(float, done.stdout.split()[-2:])
    return speed, seconds, float(counted[0]) if counted and counted[0].isdigit() else None


def _decode(path: Path, tokens: int) -> None:
    """Let llama.cpp write so many tokens on one thread, and print how fast, and the processor seconds per token."""
    import torch

    from model.release.verify import Llama

    torch.set_num_threads(1)
    llama = Llama(path, context=64 + max(DECODED))
    llama.decode_speed([10, 11, 12], 4)
    started = time.process_time()
    speed = llama.decode_speed([20, 21, 22], tokens)
    print(speed, (time.process_time() - started) / tokens)


# -- what it says ----------------------------------------------------------------------------------------------------


def rows_of(points: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The marks, at each size that has all that they compare."""
    by_kind = {kind: [point for point in points if point["kind"] == kind] for kind in KINDS}
    dense = sorted(by_kind["dense"], key=lambda point: float(point["bits_per_byte"]))
    rows = []
    for kind in ("mixture", "pruned"):
        for point in by_kind[kind]:
            size, ours = point["megabytes"], float(point["bits_per_byte"])
            peer = next((each for each in dense if each["megabytes"] == size), None)
            if peer is None:
                continue
            target = 1.0 if kind == "mixture" else None
            peers = {"dense": float(peer["bits_per_byte"])}
            rows.append(row(f"bits per byte, {kind}, {size} MB", "bits", ours, peers, target, most=True))
            for name, unit in (("accuracy", "share"), ("tokens_per_second", "tokens/s"), ("bytes", "bytes")):
                rows.append(row(f"{name}, {kind}, {size} MB", unit, point[name], {"dense": peer[name]}, None))
            speed = equal_quality(ours, dense, lambda each: 1 / float(each["cpu_seconds_per_token"]))
            if speed is not None:
                at = f"speed at its bits per byte, {kind}, {size} MB"
                ours_per_second = 1 / float(point["cpu_seconds_per_token"])
                rows.append(row(at, "tokens/cpu s", ours_per_second, {"dense": speed}, 1.5 if target else None))
    return rows


def equal_quality(
    bits: float, dense: Sequence[Mapping[str, Any]], speed: Callable[[Mapping[str, Any]], float]
) -> float | None:
    """Speed of a dense model of so many bits per byte, between the two next to it (on a straight line).

    Better than all of them: the best one's, which flatters the dense. Worse than all: None, nothing is known.
    """
    if bits <= dense[0]["bits_per_byte"]:
        return speed(dense[0])
    for better, worse in itertools.pairwise(dense):
        low, high = float(better["bits_per_byte"]), float(worse["bits_per_byte"])
        if low <= bits <= high:
            return speed(better) + (speed(worse) - speed(better)) * (bits - low) / (high - low)
    return None


def pictures(points: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Bits per byte against size and against work: SVG files by name."""
    from flows.report.charts import curves, standalone

    axes: dict[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {
        "frontier-size": ("megabytes of the 4-bit file", lambda each: each["bytes"] / 1e6),
        "frontier-work": ("processor seconds for 1,000 tokens", lambda each: 1000 * each["cpu_seconds_per_token"]),
    }
    drawn = {}
    for name, (x_label, x) in axes.items():
        series = {
            kind: sorted((x(each), float(each["bits_per_byte"])) for each in points if each["kind"] == kind)
            for kind in KINDS
        }
        label = f"Bits per byte of held-out text against {x_label}"
        drawn[f"{name}.svg"] = standalone(curves(name, series, label=label, x_label=x_label, y_label="bits per byte"))
    return drawn


if __name__ == "__main__":
    main()
