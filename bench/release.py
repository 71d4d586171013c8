"""What a release costs and how it serves: ``python -m bench.release [--quick] [--folder DIR] [--json FILE]``.

Three parts, all by default, each on the model of `bench.release_model` (kept in ``--folder``):

- `quality`: divergence from full precision on held-out text, perplexity, top-1 agreement and bits per weight of our
  8- and 4-bit weights, rounding to nearest, torchao and llama.cpp's Q8_0 and Q4_K_M. All weights are judged by one
  forward pass in fp32, so that only the weights differ, and embeddings have 8 bits everywhere. The 4-bit budget is what
  Q4_K_M takes. Time and memory to quantize.
- `decode`: tokens per second, one request at a time: what `deepmill serve` runs, llama.cpp in other precisions, our own
  engine, transformers. Rounds in turn.
- `serving`: `deepmill serve` under load: requests per second, p99, time to the first token, errors.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType
from tokenizers import Tokenizer
from torch import Tensor

from bench.release_model import LAPTOP, QUICK, make_model
from bench.release_serving import serving
from bench.table import Row, print_table, row
from model.checkpoint import load_model
from model.release.allocate import allocate
from model.release.calibrate import CalibrationBatch, calibrate, rounded
from model.release.divergence import Divergence, Reference
from model.release.gguf import write_gguf
from model.release.kquants import k_quantize, k_quants
from model.release.quantized import Plan, fill, make_plan, plain_unit, save_quantized
from model.release.rows import cut, sequence_length, task_rows, text_rows
from model.release.units import Role, role_of, units
from model.sections import Precision
from model.transformer import Transformer

__all__ = ["main"]

PARTS = ("quality", "decode", "serving")
EXPERT_TOKENS, DAMPING = 128, 0.01
Weights = Mapping[str, Any]
"""Units by name, whatever stores them."""


def main() -> None:
    """Measure, print a table, and with ``--json`` write its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything tiny: does it run, not what it shows")
    parser.add_argument("--part", choices=PARTS, action="append", help="one part, may be repeated")
    parser.add_argument("--folder", type=Path, help="where the model is kept")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="where the rows go")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    parts = chosen.part or PARTS
    with tempfile.TemporaryDirectory() as scratch:
        folder = (chosen.folder or Path(scratch)).absolute()
        made = make_model(QUICK if chosen.quick else LAPTOP, folder, lambda line: print(line, flush=True))
        bench = Bench(made, Path(scratch), quick=chosen.quick)
        rows: list[Row] = []
        if "quality" in parts:
            rows += bench.quality()
        if "decode" in parts:
            rows += bench.decode(2 if chosen.quick else 5)
        if "serving" in parts:
            rows += serving(bench.served(), requests=24 if chosen.quick else 200)
    print_table(rows)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


class Bench:
    """One model, and what is made of it."""

    def __init__(self, made: Mapping[str, Path], scratch: Path, *, quick: bool) -> None:
        self.made, self.scratch, self.quick = made, scratch, quick
        self.checkpoint = made["model"] / "model"
        self.model = load_model(self.checkpoint).requires_grad_(False)
        self.words = Tokenizer.from_file(str(made["tokenizer"] / "tokenizer.json"))
        self.calibration = self._calibration(8 if quick else 96)
        self._weights: dict[str, tuple[Weights, float]] = {}

    def _calibration(self, count: int) -> list[CalibrationBatch]:
        tasks = self.made["reasoning"] / "train.jsonl"
        length = sequence_length(self.made["shards"])
        text = text_rows(self.made["shards"], "train", count, 0)
        solved = task_rows(tasks, self.words, length, max(2, count // 8), 0)
        return [batch for rows in (text, solved) for batch in cut(rows, 4)]

    def weights(self, name: str) -> tuple[Weights, float]:
        """The units of a contender and the seconds it took to make them; made once."""
        if name not in self._weights:
            begun = time.perf_counter()
            found = getattr(self, f"_{name}")()
            self._weights[name] = found, time.perf_counter() - begun
        return self._weights[name]

    def _plan(self, precision: Precision) -> Plan:
        kinds = {Role.EXPERTS: precision, Role.LINEAR: precision, Role.EMBEDDINGS: Precision.Q8_0}
        return make_plan(self.model, kinds)

    def _calibrated(self, plan: Plan) -> Weights:
        work = copy.deepcopy(self.model)
        return calibrate(work, self.calibration, plan, damping=DAMPING, expert_tokens=EXPERT_TOKENS).stored

    def _int8(self) -> Weights:
        return self._calibrated(self._plan(Precision.Q8_0))

    def _int4(self) -> Weights:
        """With the bits that Q4_K_M takes."""
        plan = self._plan(Precision.Q4_0)
        allocate(self.model, plan, self.bits(self.weights("q4_k_m")[0]), self.calibration[::4][:4])
        return self._calibrated(plan)

    def _int4_uniform(self) -> Weights:
        return self._calibrated(self._plan(Precision.Q4_0))

    def _rtn8(self) -> Weights:
        return rounded(self.model, self._plan(Precision.Q8_0))

    def _rtn4(self) -> Weights:
        return rounded(self.model, self._plan(Precision.Q4_0))

    def _q8_0(self) -> Weights:
        """Every matrix by llama.cpp's Q8_0 kernel."""
        kind = GGMLQuantizationType.Q8_0
        return {
            name: plain_unit(weight, None) if role_of(name, weight) is Role.KEPT else k_quantize(weight, kind)
            for name, weight in units(self.model).items()
        }

    def _q4_k_m(self) -> Weights:
        return k_quants(units(self.model), self.model.config, {}, embeddings=GGMLQuantizationType.Q8_0)

    def _q4_k_m_imatrix(self) -> Weights:
        """Importance as llama-imatrix takes it: mean squares of the full-precision model's activations."""
        work, unchanged = copy.deepcopy(self.model), dict.fromkeys(units(self.model))
        seen = calibrate(work, self.calibration, unchanged, damping=DAMPING, expert_tokens=1).importance
        return k_quants(units(self.model), self.model.config, seen, embeddings=GGMLQuantizationType.Q8_0)

    def bits(self, weights: Weights) -> float:
        """Bits per weight of the quantized matrices but the embeddings."""
        stored = count = 0
        for name, weight in units(self.model).items():
            if role_of(name, weight) in (Role.EXPERTS, Role.LINEAR):
                stored += weights[name].stored.nbytes
                count += weight.numel()
        return 8 * stored / count

    def _with(self, weights: Weights) -> Transformer:
        work = copy.deepcopy(self.model)
        fill(work, weights)
        return work

    def quality(self) -> list[Row]:
        """Rows of divergence, perplexity, size and cost."""
        reference = Reference(self.model, list(cut(self._held_out(8 if self.quick else 96), 4)))
        names = ("int8", "rtn8", "q8_0", "int4", "int4_uniform", "rtn4", "q4_k_m", "q4_k_m_imatrix")
        found: dict[str, Divergence] = {}
        for name in names:
            weights, seconds = self.weights(name)
            found[name] = reference.compare(self._with(weights))
            _tell(name, self.bits(weights), found[name], seconds)
        peers = _torchao(self.model)
        ao = {name: reference.compare(peer) for name, peer in peers.items()}
        for name, bits in (("torchao8", 8.0), ("torchao4", 4.5)):
            if name in ao:
                _tell(name, bits, ao[name], 0.0)
        plain = reference.compare(self.model)
        print(f"full precision: perplexity {plain.perplexity:.4f}, {reference.tokens:,} held-out tokens")

        def kl(*those: str) -> dict[str, float | None]:
            return {
                name: (ao if name in ao else found)[name].kl * 1e3 if name in ao or name in found else None
                for name in those
            }

        def rise(name: str) -> float:
            return 100 * (found[name].perplexity / plain.perplexity - 1)

        eight, four = found["int8"].kl * 1e3, found["int4"].kl * 1e3
        every = ("torchao4", "q4_k_m", "q4_k_m_imatrix")
        ours, theirs = (self.bits(self.weights(name)[0]) for name in ("int4", "q4_k_m"))
        times = {name: self.weights(name)[1] for name in ("q4_k_m", "q4_k_m_imatrix")}
        return [
            row("divergence, 8 bits", "mnat", eight, kl("q8_0", "rtn8", "torchao8"), None),
            row("divergence, 8 bits, of Q8_0's", "mnat", eight, kl("q8_0"), 1.0, most=True),
            row("divergence, 4 bits, of rounding's", "mnat", four, kl("rtn4"), 0.25, most=True),
            row("divergence, 4 bits, of the best peer's", "mnat", four, kl(*every), 1.0, most=True),
            row("divergence, 4 bits everywhere", "mnat", found["int4_uniform"].kl * 1e3, kl("rtn4", "q4_k_m"), None),
            row("bits per weight, 4 bits", "bits", ours, {"q4_k_m": theirs}, 1.0, most=True),
            row("perplexity rise, 8 bits", "%", rise("int8"), {}, 0.1, most=True),
            row("perplexity rise, 4 bits", "%", rise("int4"), {}, 1.0, most=True),
            row("time to quantize, 4 bits", "s", self.weights("int4")[1], times, None),
            row("memory, peak of the process", "MiB", _peak(), {}, None),
        ]  # fmt: skip

    def _held_out(self, count: int) -> CalibrationBatch:
        return text_rows(self.made["shards"], "validation", count, 0)

    def served(self) -> Path:
        """A model folder with the 4-bit weights, as `deepmill serve` takes it."""
        folder = self.scratch / "served"
        if not folder.exists():
            save_quantized(folder, self.weights("int4")[0], self.checkpoint)
        return folder

    def _gguf(self, kind: str, weights: Weights) -> Path:
        path = self.scratch / f"model-{kind}.gguf"
        write_gguf(path, self.model.config, weights, self.made["tokenizer"], name="bench")
        return path

    def decode(self, rounds: int) -> list[Row]:
        """Tokens per second of each engine, and the time to the first token of a long prompt."""
        from model.release.verify import Llama

        full = {name: plain_unit(weight, None) for name, weight in units(self.model).items()}
        prompt = self.calibration[0].tokens_BT[0, :64].tolist()
        files = {
            "f32": self._gguf("f32", full),
            "q8_0": self._gguf("q8_0", self.weights("int8")[0]),
            "ours": self._gguf("q4_0", self.weights("int4")[0]),
            "q4_k_m": self._gguf("q4_k_m", self.weights("q4_k_m")[0]),
        }
        engines: dict[str, Callable[[], float]] = {}
        for name, path in files.items():
            llama = Llama(path, context=512)
            engines[name] = lambda llama=llama: llama.decode_speed(prompt)  # type: ignore[misc]
        engines["own engine, fp32"] = lambda: _own_speed(self.model, prompt)
        theirs = _transformers(self.checkpoint)
        if theirs is not None:
            engines["transformers, fp32"] = lambda: _their_speed(theirs, prompt)
        found: dict[str, list[float]] = {name: [] for name in engines}
        for number in range(rounds + 1):
            for name, speed in engines.items():
                measured = speed()
                if number:
                    found[name].append(measured)
        speeds = {name: statistics.median(values) for name, values in found.items()}
        ours, their_four = speeds.pop("ours"), speeds.pop("q4_k_m")
        return [
            row("decode, 4 bits in llama.cpp", "tokens/s", ours, {"llama.cpp q4_k_m": their_four}, 1.0),
            row("decode, of every other", "tokens/s", ours, speeds, 1.0),
        ]  # fmt: skip


def _tell(name: str, bits: float, found: Divergence, seconds: float) -> None:
    print(
        f"{name:<15} {bits:6.3f} bits  KL {found.kl:.3e}  top-1 {found.top1:.4f}  perplexity {found.perplexity:.4f}  "
        f"{seconds:.1f} s",
        flush=True,
    )


def _torchao(model: Transformer) -> dict[str, Transformer]:
    """Every matrix by torchao's primitives, embeddings as ours: its modules leave 3-D experts in full precision, and
    its 4-bit linear layer has no CPU kernel. 8 bits: symmetric by row. 4 bits: asymmetric, groups of 64 (4.5 bits)."""
    try:
        from torchao.quantization.quant_primitives import (
            MappingType,
            choose_qparams_affine,
            dequantize_affine,
            quantize_affine,
        )
    except ImportError:
        return {}

    def rounded_by(weight: Tensor, kind: Any, group: int, kind_of: torch.dtype, low: int, high: int) -> Tensor:
        block = (1, group)
        scale, zero = choose_qparams_affine(
            weight, kind, block, kind_of, low, high, scale_dtype=torch.float32, zero_point_dtype=torch.int32
        )
        codes = quantize_affine(weight, block, scale, zero, kind_of, low, high)
        return dequantize_affine(codes, block, scale.half().float(), zero, kind_of, low, high)

    made = {}
    for name in ("torchao8", "torchao4"):
        work = copy.deepcopy(model)
        kinds = {Role.EMBEDDINGS: Precision.Q8_0}
        embeddings = rounded(model, make_plan(model, kinds))
        for unit, view in units(work).items():
            role = role_of(unit, view)
            if role is Role.EMBEDDINGS:
                view.copy_(embeddings[unit].weight())
            elif role is not Role.KEPT:
                flat = view.reshape(-1, view.shape[-1]).contiguous()
                columns = flat.shape[1]
                if name == "torchao8":
                    new = rounded_by(flat, MappingType.SYMMETRIC, columns, torch.int8, -128, 127)
                else:
                    group = 64 if columns % 64 == 0 else 32
                    new = rounded_by(flat, MappingType.ASYMMETRIC, group, torch.uint8, 0, 15)
                view.copy_(new.view(view.shape))
        made[name] = work
    return made


def _own_speed(model: Transformer, prompt: list[int]) -> float:
    from model.generate import Sampling, stream

    tokens = stream(model, prompt, Sampling(max_new_tokens=24), stop=-1)
    next(tokens)  # the prompt
    begun = time.perf_counter()
    count = sum(1 for _ in tokens)
    return count / (time.perf_counter() - begun)


def _transformers(checkpoint: Path) -> Any:
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        return None
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()


@torch.no_grad()
def _their_speed(model: Any, prompt: list[int]) -> float:
    """Greedy steps over its own cache."""
    found = model(torch.tensor([prompt]), use_cache=True)
    token, cache = found.logits[:, -1:].argmax(-1), found.past_key_values
    begun = time.perf_counter()
    for _ in range(23):
        found = model(token, past_key_values=cache, use_cache=True)
        token, cache = found.logits[:, -1:].argmax(-1), found.past_key_values
    return 23 / (time.perf_counter() - begun)


def _peak() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
