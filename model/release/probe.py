"""What a GGUF file costs on this machine: a process of its own loads it with llama.cpp and writes.

    python -m model.release.probe FILE CONTEXT TOKENS THREADS

A process, for the kernel tells the most memory of a process, and of one only. The figures move with the machine: they
are metrics, and no part of an artifact's bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.errors import UserError
from model.release.llama_cpp import ask, parameters

__all__ = ["Probe", "probe"]

TOKENS = 512
"""That are written."""
BATCH = 64
"""Tokens that are read at once, as on a device."""


@dataclass(frozen=True)
class Probe:
    """What was measured; memory is what the process grew by, and None where the system does not tell."""

    start_seconds: float
    """From an empty process with llama.cpp to the first token: the cold start."""
    load_bytes: int | None
    """The most while loading,"""
    peak_bytes: int | None
    """and with `tokens` written."""
    tokens: int
    tokens_per_second: float

    def metrics(self) -> dict[str, float]:
        """What `export` reports, by names that go before ``_q4_0``."""
        told = {
            "decode_tokens_per_second": self.tokens_per_second,
            "start_seconds": self.start_seconds,
            "load_bytes": self.load_bytes,
            "peak_bytes": self.peak_bytes,
        }
        return {name: value for name, value in told.items() if value is not None}


def probe(path: Path, *, context: int, threads: int) -> Probe:
    """Load `path` in a process of its own, and write up to `TOKENS` tokens into a context of `context`.

    Raises:
        UserError: llama.cpp does not run with the file.
    """
    command = [sys.executable, "-m", "model.release.probe", str(path), str(context)]
    told = [str(min(TOKENS, context - 8)), str(threads)]
    done = subprocess.run([*command, *told], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise UserError(f"{path}: llama.cpp does not run with it ({last}); set export.gguf to false, and report this")
    return Probe(**json.loads(done.stdout.splitlines()[-1]))


def _measure(path: Path, context: int, tokens: int, threads: int) -> Probe:
    import xllamacpp

    chosen = parameters(path, context=context, slots=1, threads=threads)
    chosen.n_batch = chosen.n_ubatch = BATCH  # type: ignore[attr-defined]
    before, begun = _resident("VmRSS"), time.monotonic()
    server = xllamacpp.Server(chosen)
    load = _growth(before)
    _write(server.listening_address, 1)
    started = time.monotonic() - begun
    speed = _write(server.listening_address, tokens)
    return Probe(round(started, 4), load, _growth(before), tokens, round(speed, 1))


def _write(address: str, tokens: int) -> float:
    """Tokens per second of so many, whatever they are."""
    asked = {"prompt": [7, 7, 7], "n_predict": tokens, "ignore_eos": True, "temperature": 0, "cache_prompt": False}
    return float(ask(address, "/completion", asked)["timings"]["predicted_per_second"])


def _growth(before: int | None) -> int | None:
    peak = _resident("VmHWM")
    return None if before is None or peak is None else peak - before


def _resident(line: str) -> int | None:
    """Memory of this process in bytes: Linux's VmRSS (now) or VmHWM (the most so far)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(each.split()[1]) for each in lines if each.startswith(f"{line}:")), None)


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(Path(sys.argv[1]), *map(int, sys.argv[2:])))))
