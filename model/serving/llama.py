"""The engine llama.cpp, through the prebuilt binding `xllamacpp`: ``python -m model.serving.llama``.

Its own C++ server answers, with continuous batching over the slots; Python only starts it and waits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

from gguf import GGUFReader

from model.serving.child import run, tell
from model.serving.engine import EngineSpec

__all__ = ["parameters", "serve"]

ARCHITECTURES = ("deepseek2", "llama")


def parameters(path: Path, *, context: int, slots: int, threads: int) -> object:
    """llama.cpp's parameters for one file: loopback, nothing fetched, no page of its own.

    Raises:
        ValueError: the file is no GGUF file, or of an architecture that we do not write.
    """
    import xllamacpp

    _inspect(path)
    chosen = xllamacpp.CommonParams()
    chosen.model.path = str(path)
    chosen.n_ctx, chosen.n_parallel = context * slots, slots
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = threads
    chosen.n_threads_http = slots + 2
    chosen.offline, chosen.ui, chosen.fit_params, chosen.warmup = True, False, False, False
    chosen.check_tensors = True
    chosen.cache_ram_mib = 0
    chosen.verbosity = 0
    return chosen


def _inspect(path: Path) -> None:
    """llama.cpp ends the whole process over some damaged files: look first."""
    try:
        reader = GGUFReader(path)
        architecture = bytes(reader.fields["general.architecture"].parts[-1]).decode()
    except Exception as error:
        raise ValueError(f"no readable GGUF file ({type(error).__name__}: {error})") from None
    if architecture not in ARCHITECTURES:
        raise ValueError(f"its architecture is {architecture}, not one of {', '.join(ARCHITECTURES)}")


def serve(spec: EngineSpec) -> None:
    """Start the server, tell where it listens, and stay until standard input ends."""
    import xllamacpp

    chosen = parameters(Path(spec.path), context=spec.context, slots=spec.slots, threads=spec.threads)
    chosen.api_keys = [spec.key]  # type: ignore[attr-defined]
    server = xllamacpp.Server(chosen)
    port = urlsplit(server.listening_address).port
    tell(address=f"http://127.0.0.1:{port}")
    sys.stdin.read()


if __name__ == "__main__":
    run(serve)
