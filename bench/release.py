"""What a release costs and how it serves: ``python -m bench.release [--quick] [--folder DIR] [--json FILE]``.

Three parts, all by default, each on the model of `bench.release_model` (kept in ``--folder``), or with ``--artifact
STORE/STAGE/IDENTITY`` on the model, rows and tokenizer of that artifact of a run (stages `pretrain` to `quantize`):

- `quality`: divergence from full precision on held-out text, perplexity, top-1 agreement and bits per weight of our
  8- and 4-bit weights beside rounding to nearest, torchao, llama.cpp and llmcompressor (the Python that
  ``DEEPMILL_LLMCOMPRESSOR`` names), each with its bits: a peer that has fewer is not compared. One budget of 4 bits is
  what Q4_K_M takes, the other 4.5 for all. Time and memory to quantize.
- `decode`: tokens per second, one request at a time: what `deepmill serve` runs, llama.cpp in other precisions, our own
  engine, transformers. Rounds in turn.
- `serving`: `deepmill serve` under load: requests per second, p99, time to the first token, errors.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bench.release_model import LAPTOP, QUICK, make_model, model_of
from bench.release_quality import quality
from bench.release_serving import serving
from bench.release_weights import Contenders, Weights
from bench.table import Row, bench_parser, row, show
from model.architecture.transformer import Transformer
from model.release.gguf import write_gguf
from model.release.quantized import plain_unit, save_quantized
from model.release.units import units

__all__ = ["main"]

PARTS = ("quality", "decode", "serving")


def main() -> None:
    """Measure, print a table, and with ``--json`` write its rows."""
    parser = bench_parser(__doc__, "everything tiny: does it run, not what it shows")
    parser.add_argument("--part", choices=PARTS, action="append", help="one part, may be repeated")
    parser.add_argument("--folder", type=Path, help="where the model is kept")
    parser.add_argument("--artifact", type=Path, help="of a run, in a local store: its model in place of the bench's")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    parts = chosen.part or PARTS
    with tempfile.TemporaryDirectory() as scratch:
        if chosen.artifact:
            made = model_of(chosen.artifact)
        else:
            folder = (chosen.folder or Path(scratch)).absolute()
            made = make_model(QUICK if chosen.quick else LAPTOP, folder, lambda line: print(line, flush=True))
        bench = Bench(made, Path(scratch), quick=chosen.quick)
        rows: list[Row] = []
        if "quality" in parts:
            rows += quality(bench.contenders)
        if "decode" in parts:
            rows += bench.decode(2 if chosen.quick else 5)
        if "serving" in parts:
            rows += serving(bench.served(), requests=24 if chosen.quick else 200)
    show(rows, chosen.json)


class Bench:
    """One model, and what is made of it."""

    def __init__(self, made: Mapping[str, Path], scratch: Path, *, quick: bool) -> None:
        self.made, self.scratch, self.quick = made, scratch, quick
        self.contenders = Contenders(made, quick=quick)

    def served(self) -> Path:
        """A model folder with the 4-bit weights, as `deepmill serve` takes it."""
        folder = self.scratch / "served"
        if not folder.exists():
            save_quantized(folder, self.contenders.weights("int4"), self.contenders.checkpoint)
        return folder

    def _gguf(self, kind: str, weights: Weights) -> Path:
        path = self.scratch / f"model-{kind}.gguf"
        write_gguf(path, self.contenders.model.config, weights, self.made["tokenizer"], name="bench")
        return path

    def decode(self, rounds: int) -> list[Row]:
        """Tokens per second of each engine, and the time to the first token of a long prompt."""
        from model.release.verify import Llama

        full = {name: plain_unit(weight, None) for name, weight in units(self.contenders.model).items()}
        prompt = self.contenders.calibration[0].tokens_BT[0, :64].tolist()
        files = {
            "f32": self._gguf("f32", full),
            "q8_0": self._gguf("q8_0", self.contenders.weights("int8")),
            "ours": self._gguf("q4_0", self.contenders.weights("int4")),
            "q4_k_m": self._gguf("q4_k_m", self.contenders.weights("q4_k_m")),
        }
        engines: dict[str, Callable[[], float]] = {}
        for name, path in files.items():
            llama = Llama(path, context=512)
            engines[name] = lambda llama=llama: llama.decode_speed(prompt)  # type: ignore[misc]
        engines["own engine, fp32"] = lambda: _own_speed(self.contenders.model, prompt)
        theirs = _transformers(self.contenders.checkpoint)
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


def _own_speed(model: Transformer, prompt: list[int]) -> float:
    from model.generation.generate import Sampling, stream

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


if __name__ == "__main__":
    main()
