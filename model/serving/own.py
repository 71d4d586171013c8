"""The project's own engine, for models that llama.cpp cannot compute: ``python -m model.serving.own``.

Requests take turns token by token in one thread: nobody waits for the whole answer of another. Slower than llama.cpp,
and without batching; it computes every family exactly as training did.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from infra.json_objects import read_object
from model.architecture.transformer import Transformer
from model.generation.generate import Sampling, stream
from model.release.quantized import KEY, load_quantized
from model.serving.child import run, tell
from model.serving.spec import CompletionEvent, CompletionRequest, EngineSpec
from model.serving.stops import overlap
from pipeline.tokens.chat import chat_format, read_tokenizer

__all__ = ["Writer", "load", "serve"]


def load(folder: Path) -> Transformer:
    """The model of a quantized or a plain checkpoint folder."""
    from model.architecture.checkpoint import load_model

    model = load_quantized(folder) if KEY in read_object(folder / "config.json") else load_model(folder)
    return model.requires_grad_(False)


class Writer:
    """Completions of one model, as text."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = read_tokenizer(folder)
        self.model = load(folder)
        self.stop = chat_format(self.tokenizer).eos

    def write(self, body: CompletionRequest) -> Generator[tuple[str, str | None, int], None, None]:
        """(text, reason to finish, tokens so far), a piece per token that completes a character."""
        sampling = Sampling(
            max_new_tokens=int(body["max_tokens"]),
            temperature=float(body.get("temperature", 0.0)),
            top_p=float(body.get("top_p", 1.0)),
            seed=int(body.get("seed", 0)),
        )
        endings = tuple(body.get("stop") or ())
        tokens: list[int] = []
        sent = ""
        for token in stream(self.model, body["prompt"], sampling, stop=self.stop):
            tokens.append(token)
            text = self.tokenizer.decode(tokens)
            cut = min((place for ending in endings if (place := text.find(ending)) >= 0), default=None)
            if cut is not None:
                yield text[len(sent) : cut], "stop", len(tokens)
                return
            held = max((overlap(text, ending) for ending in endings), default=0)
            ready = text[: len(text) - held]
            if not ready.endswith("�") and len(ready) > len(sent):
                yield ready[len(sent) :], None, len(tokens)
                sent = ready
        text = self.tokenizer.decode(tokens)
        yield text[len(sent) :], "length" if len(tokens) == sampling.max_new_tokens else "stop", len(tokens)


def _app(writer: Writer, spec: EngineSpec) -> Starlette:
    pool = ThreadPoolExecutor(1)  # takes the waiting steps in turn

    async def completions(request: HttpRequest) -> Response:
        if request.headers.get("authorization") != f"Bearer {spec.key}":
            return JSONResponse({"error": "no such key"}, 401)
        body: CompletionRequest = await request.json()
        if len(body["prompt"]) + body["max_tokens"] > spec.context:
            return JSONResponse({"error": f"more than {spec.context} tokens"}, 400)
        return StreamingResponse(_events(writer, body, pool), media_type="text/event-stream")

    async def health(request: HttpRequest) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/v1/completions", completions, methods=["POST"]), Route("/health", health)])


async def _events(writer: Writer, body: CompletionRequest, pool: ThreadPoolExecutor) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    pieces = writer.write(body)
    try:
        while (piece := await loop.run_in_executor(pool, next, pieces, None)) is not None:
            text, finish, tokens = piece
            event: CompletionEvent = {"choices": [{"index": 0, "text": text, "finish_reason": finish}]}
            if finish:
                event["usage"] = {"prompt_tokens": len(body["prompt"]), "completion_tokens": tokens}
            yield f"data: {json.dumps(event)}\n\n"
        yield "data: [DONE]\n\n"
    finally:
        pool.submit(pieces.close)


def serve(spec: EngineSpec) -> None:
    """Load the model, tell where it is served, and stay until standard input ends."""
    import os
    import sys

    torch.set_num_threads(spec.threads)
    app = _app(Writer(Path(spec.path)), spec)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    tell(address=f"http://127.0.0.1:{listener.getsockname()[1]}")
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    run(serve)
