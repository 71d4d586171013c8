"""The engine llama.cpp, through the prebuilt binding `xllamacpp`: ``python -m model.serving.llama``.

Its own C++ server answers, with continuous batching over the slots; Python only starts it and waits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

from model.release.llama_cpp import keep_in_8_bits, parameters
from model.serving.child import run, tell
from model.serving.spec import CacheType, EngineSpec

__all__ = ["serve"]


def serve(spec: EngineSpec) -> None:
    """Start the server, tell where it listens, and stay until standard input ends."""
    import xllamacpp

    chosen = parameters(
        Path(spec.path),
        context=spec.context,
        slots=spec.slots,
        threads=spec.threads,
        drafts=spec.drafts,
        drafter=Path(spec.drafter) if spec.drafter else None,
    )
    if spec.cache == CacheType.Q8_0:
        keep_in_8_bits(chosen, Path(spec.path))
    chosen.api_keys = [spec.key]  # type: ignore[attr-defined]
    chosen.embedding = True  # type: ignore[attr-defined]  # completions go on as before
    # Means over a text's tokens come out wrong where texts share a batch (found with b11549).
    chosen.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST  # type: ignore[attr-defined]
    server = xllamacpp.Server(chosen)
    port = urlsplit(server.listening_address).port
    tell(address=f"http://127.0.0.1:{port}")
    sys.stdin.read()


if __name__ == "__main__":
    run(serve)
