"""The project's own engine, for models that llama.cpp cannot compute: ``python -m model.serving.own``.

Requests take turns token by token in one thread: nobody waits for the whole answer of another. Slower than llama.cpp,
and without batching; it computes every family exactly as training did, and says how likely a prompt is.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from torch import Tensor

from infra.json_objects import JsonObject, read_object
from model.architecture.transformer import Transformer
from model.generation.decode import Predictor, StepDecoder
from model.generation.generate import Sampling, choose
from model.generation.past import Past
from model.generation.reasoning import overlap
from model.generation.speculative import Ahead, Drafted
from model.release.quantized import KEY, load_quantized
from model.serving.child import run, tell
from model.serving.prefix import PrefixCache
from model.serving.spec import CacheType, CompletionEvent, CompletionRequest, EngineSpec, TokenEntry
from model.serving.steering import Steering, entry
from pipeline.tokens.chat import chat_format, read_tokenizer
from pipeline.tokens.continuation import ContinuationDecoder

if TYPE_CHECKING:
    from llguidance import LLTokenizer

__all__ = ["Writer", "load", "serve"]


def load(folder: Path, *, prediction: bool = False) -> Transformer:
    """The model of a quantized or a plain checkpoint folder, with its layers of multi-token prediction if wanted."""
    from model.architecture.checkpoint import load_model

    read = load_quantized if KEY in read_object(folder / "config.json") else load_model
    return read(folder, prediction=prediction).requires_grad_(False)


class Writer:
    """Completions of one model, as text."""

    def __init__(self, folder: Path, cache: str = CacheType.AUTO, drafts: int = 0) -> None:
        """`drafts` tokens are guessed at a time, where the model has a layer of multi-token prediction."""
        self.tokenizer = read_tokenizer(folder)
        self._words = ContinuationDecoder(self.tokenizer)
        self.model = load(folder, prediction=bool(drafts))
        self.stop = chat_format(self.tokenizer).eos
        self._decoder = StepDecoder(self.model)
        self._prefixes = PrefixCache(self.model, in_8_bits=cache == CacheType.Q8_0)
        self._drafts = drafts
        self._predictor = Predictor(self.model) if self.model.config.num_nextn_predict_layers else None

    @cached_property
    def _grammars(self) -> LLTokenizer:
        from llguidance import LLTokenizer

        return LLTokenizer(self.tokenizer.to_str(), n_vocab=self.model.config.vocab_size, eos_token=self.stop)

    def write(self, body: CompletionRequest) -> Generator[CompletionEvent, None, None]:
        """Events, one per token that completes a character, the last with the reason to finish and the counts."""
        text = _Text(self._words, tuple(body.get("stop") or ()))
        if body.get("prompt_logprobs"):
            yield {"choices": [], "prompt_logprobs": self._look_at(body)}
        if body["max_tokens"]:
            for token, told in self._tokens(body, text):
                text.add(token, told)
                if (ready := text.ready()) is not None:
                    yield _event(*ready)
                if text.is_cut:
                    break
        finish = "length" if len(text.tokens) == body["max_tokens"] and not text.is_cut else "stop"
        event = _event(*text.rest(), finish)
        event["usage"] = {
            "prompt_tokens": len(body["prompt"]),
            "completion_tokens": len(text.tokens),
            "prompt_tokens_details": {"cached_tokens": text.cached},
        }
        if self._predictor is not None:
            right, guessed = text.drafted.right, text.drafted.guessed
            event["usage"]["completion_tokens_details"] = {
                "accepted_prediction_tokens": right,
                "rejected_prediction_tokens": guessed - right,
            }
        yield event

    @torch.inference_mode()
    def _tokens(self, body: CompletionRequest, text: _Text) -> Iterator[tuple[int, TokenEntry | None]]:
        """Tokens without the one that ends an answer, and what is told of each."""
        sampling = Sampling(body["max_tokens"], body["temperature"], body["top_p"], body["seed"])
        steering = Steering(body, self._grammars if body.get("grammar") else None)
        noise_T1 = torch.from_numpy(np.random.default_rng((sampling.seed, 0)).random((sampling.max_new_tokens, 1)))
        prompt = self._prefixes.read(body["prompt"])
        logits_V, text.cached = prompt.logits_V, prompt.known
        capacity = len(body["prompt"]) + sampling.max_new_tokens
        past = Past(self.model, prompt.cache, torch.zeros(1, dtype=torch.int64), capacity)

        def guess(logits_V: Tensor, place: int) -> int:
            return int(choose(logits_V[None], sampling, noise_T1[place, None]))

        def step(token: int) -> Tensor:
            return self._decoder(torch.tensor([token]), past)[0]

        after = step
        if self._predictor is not None:
            after = Ahead(
                self._decoder,
                self._predictor,
                past,
                body["prompt"],
                prompt.states_TD,
                self._drafts,
                guess,
                text.drafted,
            )
        for uniform_1 in noise_T1:
            token = int(choose(steering(logits_V)[None], sampling, uniform_1[None]))
            if token == self.stop:
                return
            steering.took(token)
            told = entry(self._words, logits_V, token, body["logprobs"]) if "logprobs" in body else None
            yield token, told
            if steering.is_over:
                return
            if len(text.tokens) < sampling.max_new_tokens:
                logits_V = after(token)

    @torch.inference_mode()
    def _look_at(self, body: CompletionRequest) -> list[TokenEntry]:
        """How likely the prompt's own tokens are; of the first nothing is known."""
        prompt, top = body["prompt"], body.get("logprobs", 1)
        logits_TV = self.model.lm_head(self.model.hidden(torch.tensor([prompt]))[0]).float()
        first = entry(self._words, logits_TV[0], prompt[0], 0)
        first["logprob"] = None
        later = zip(logits_TV, prompt[1:], strict=False)
        return [first, *(entry(self._words, logits_V, token, top) for logits_V, token in later)]

    @torch.inference_mode()
    def embed(self, tokens: list[int]) -> list[float]:
        """The hidden state of a text's last token, of length 1."""
        last_D = self.model.hidden(torch.tensor([tokens]))[0, -1].float()
        return list((last_D / last_D.norm()).tolist())


class _Text:
    """An answer as it grows: what of it is sure to stand, and the tokens that it is made of."""

    def __init__(self, words: ContinuationDecoder, endings: tuple[str, ...]) -> None:
        self._words, self._endings = words, endings
        self.tokens: list[int] = []
        self._told: list[TokenEntry] = []
        self._text = ""
        self._sent = 0
        self.is_cut = False
        """Whether an ending has come."""
        self.cached = 0
        """Tokens of the prompt that had been computed before."""
        self.drafted = Drafted()
        """What became of guessed tokens."""

    def add(self, token: int, told: TokenEntry | None) -> None:
        """Note a token."""
        self.tokens.append(token)
        self._told += [told] if told else []
        self._text = self._words.decode(self.tokens)
        places = [place for ending in self._endings if (place := self._text.find(ending)) >= 0]
        if places:
            self.is_cut, self._text, self._told = True, self._text[: min(places)], []

    def ready(self) -> tuple[str, list[TokenEntry]] | None:
        """What was not told before, where it ends in a whole character and in no beginning of an ending."""
        held = max((overlap(self._text, ending) for ending in self._endings), default=0)
        ready = self._text[self._sent : len(self._text) - held]
        if self.is_cut or held or not ready or ready.endswith("\N{REPLACEMENT CHARACTER}"):
            return None
        return self.rest()

    def rest(self) -> tuple[str, list[TokenEntry]]:
        """All that was not told before."""
        rest, told = self._text[self._sent :], self._told
        self._sent, self._told = max(self._sent, len(self._text)), []
        return rest, told


def _event(text: str, told: list[TokenEntry], finish: str | None = None) -> CompletionEvent:
    event: CompletionEvent = {"choices": [{"index": 0, "text": text, "finish_reason": finish}]}
    if told:
        event["choices"][0]["logprobs"] = {"content": told}
    return event


def _app(writer: Writer, spec: EngineSpec) -> Starlette:
    pool = ThreadPoolExecutor(1)  # takes the waiting steps in turn

    def guarded(handler: Callable[[JsonObject], Awaitable[Response]]) -> Callable[[HttpRequest], Awaitable[Response]]:
        async def guard(request: HttpRequest) -> Response:
            if request.headers.get("authorization") != f"Bearer {spec.key}":
                return JSONResponse({"error": "no such key"}, 401)
            return await handler(await request.json())

        return guard

    async def completions(body: Any) -> Response:
        if len(body["prompt"]) + body["max_tokens"] > spec.context:
            return JSONResponse({"error": f"more than {spec.context} tokens"}, 400)
        return StreamingResponse(_events(writer, body, pool), media_type="text/event-stream")

    async def embeddings(body: JsonObject) -> Response:
        if any(len(tokens) > spec.context for tokens in body["input"]):
            return JSONResponse({"error": f"more than {spec.context} tokens"}, 400)
        loop = asyncio.get_running_loop()
        found = [await loop.run_in_executor(pool, writer.embed, tokens) for tokens in body["input"]]
        return JSONResponse({"data": [{"index": place, "embedding": each} for place, each in enumerate(found)]})

    async def health(request: HttpRequest) -> Response:
        return JSONResponse({"status": "ok"})

    routes = [
        Route("/v1/completions", guarded(completions), methods=["POST"]),
        Route("/v1/embeddings", guarded(embeddings), methods=["POST"]),
        Route("/health", health),
    ]
    return Starlette(routes=routes)


async def _events(writer: Writer, body: CompletionRequest, pool: ThreadPoolExecutor) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    pieces = writer.write(body)
    try:
        while (event := await loop.run_in_executor(pool, next, pieces, None)) is not None:
            yield f"data: {json.dumps(event)}\n\n"
        yield "data: [DONE]\n\n"
    except ValueError as error:  # a grammar that its library gives up on
        yield f"data: {json.dumps({'error': str(error)})}\n\n"
    finally:
        pool.submit(pieces.close)


def serve(spec: EngineSpec) -> None:
    """Load the model, tell where it is served, and stay until standard input ends."""
    import os
    import sys

    torch.set_num_threads(spec.threads)
    app = _app(Writer(Path(spec.path), spec.cache, spec.drafts), spec)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    tell(address=f"http://127.0.0.1:{listener.getsockname()[1]}")
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    run(serve)
