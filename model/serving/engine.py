"""Engines: what computes a served model. Each is a child process that speaks OpenAI's ``/v1/completions`` on loopback.

A process of its own, so that a file that crashes an engine takes nothing else along, and a model is swapped by starting
the next engine before the last one ends. The child stands below `infra.supervisor`: it goes with the server, however
that dies. Prompts travel as token ids: all engines see the very tokens that training saw.

The child reads its `EngineSpec` as one JSON line from standard input (the key is in no command line) and answers with
one line, ``{"address": ...}`` or ``{"error": ...}``.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import httpx

from infra.errors import DeepmillError, UserError
from infra.json_objects import JsonObject
from infra.processes import free_ports
from model.serving.spec import CacheType, CompletionRequest, EngineKind, EngineSpec, TokenEntry, TopEntry
from model.serving.vllm import environment, first_error, vllm_command

__all__ = ["Delta", "Engine", "EngineError", "EngineGoneError", "EngineRefusedError", "Request"]

START_SECONDS = 600.0
"""A large model is read from disk in this time."""
STOP_SECONDS = 15.0


class EngineError(DeepmillError):
    """The engine is gone, or does not do what it should."""


class EngineGoneError(EngineError):
    """The engine broke off, or could not be reached: it may have died."""


class EngineRefusedError(EngineError):
    """The request cannot be computed, whichever engine does it: the client's mistake."""


@dataclass(frozen=True)
class Request:
    """One completion to compute."""

    prompt: list[int]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_k: int = 0
    """Sample from so many of the likeliest tokens; 0 from all."""
    min_p: float = 0.0
    """Sample from tokens at least so likely, as a share of the likeliest."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of tokens."""
    logprobs: int | None = None
    """Tell how likely each token was, and so many of the likeliest beside it; None tells nothing."""
    grammar: str = ""
    """Of `model.serving.grammar`: what the answer must follow."""
    prompt_logprobs: bool = False
    """Tell of the prompt's tokens as well; for engines that can."""

    def body(self) -> CompletionRequest:
        """As OpenAI's completion request; the extra keys switch off what llama.cpp and vLLM would add by themselves."""
        body: CompletionRequest = {
            "model": "model",
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": list(self.stop),
            "stream": True,
            "stream_options": {"include_usage": True},
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repeat_penalty": self.repetition_penalty,
            "repetition_penalty": self.repetition_penalty,
        }
        if self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1:
            body["presence_penalty"], body["frequency_penalty"] = self.presence_penalty, self.frequency_penalty
            body["repeat_last_n"] = len(self.prompt) + self.max_tokens
        if self.logit_bias:
            body["logit_bias"] = {str(token): bias for token, bias in self.logit_bias.items()}
        if self.logprobs is not None:
            body["logprobs"] = max(1, self.logprobs)  # llama.cpp takes 0 for none at all
        if self.grammar:
            body["grammar"] = self.grammar
            body["structured_outputs"] = {"grammar": self.grammar}
        if self.prompt_logprobs:
            body["prompt_logprobs"] = True
        return body


@dataclass(frozen=True)
class Delta:
    """A piece of a completion."""

    text: str = ""
    finish: str | None = None
    """``stop`` or ``length``, at the end."""
    completion_tokens: int | None = None
    """Tokens written in all, where the engine says so."""
    cached_tokens: int = 0
    """Tokens of the prompt that the engine had computed before, told at the end."""
    entries: tuple[TokenEntry, ...] = ()
    """Tokens whose text this is, where they are asked for."""
    prompt_entries: tuple[TokenEntry, ...] = ()
    """Tokens of the prompt, where they are asked for."""


class Engine:
    """One running child."""

    def __init__(self, process: asyncio.subprocess.Process, spec: EngineSpec, address: str, log: IO[bytes]) -> None:
        self._process, self._log = process, log
        self.spec, self.address = spec, address
        self._client = httpx.AsyncClient(
            base_url=address,
            headers={"Authorization": f"Bearer {spec.key}"},
            timeout=httpx.Timeout(None, connect=10.0),
            # The engine may close a kept connection just as the next request is sent; on loopback a new one is cheap.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,  # no proxy stands between two ends of a loopback
        )

    @classmethod
    async def start(
        cls,
        kind: EngineKind,
        path: Path,
        *,
        context: int,
        slots: int,
        threads: int,
        cache: CacheType = CacheType.AUTO,
        drafts: int = 0,
        drafter: Path | None = None,
    ) -> Engine:
        """Start a child and wait until it answers; the rest is as in `EngineSpec`.

        Raises:
            UserError: the engine is not installed, cannot load the file, or cannot keep its cache so.
        """
        if kind is EngineKind.VLLM and cache is not CacheType.AUTO:
            raise UserError(
                f"vllm keeps no cache in {cache}: leave it at auto, or set DEEPMILL_VLLM_OPTIONS='--kv-cache-dtype fp8'"
            )
        key, file = secrets.token_urlsafe(24), str(drafter or "")
        spec = EngineSpec(kind.value, str(path), key, context, slots, threads, cache.value, drafts, file)
        port = free_ports()[0] if kind is EngineKind.VLLM else 0
        log = tempfile.TemporaryFile()  # noqa: SIM115 (the engine closes it)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.supervisor", str(os.getpid()), *_command(spec, port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=log if kind is EngineKind.VLLM else asyncio.subprocess.PIPE,  # vLLM's has its log, no answer
            stderr=log,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | (environment(spec) if kind is EngineKind.VLLM else {}),
            start_new_session=True,  # Ctrl-C is for the server, which still has requests to finish
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(spec)).encode() + b"\n")
        try:
            if kind is EngineKind.VLLM:
                address = f"http://127.0.0.1:{port}"
            else:
                address = await asyncio.wait_for(_address(process, path, log), START_SECONDS)
            engine = cls(process, spec, address, log)
            await engine._wait_healthy(path)
            if kind is EngineKind.VLLM:
                await engine._try(path)
        except BaseException:
            await _end(process)
            raise
        return engine

    async def _wait_healthy(self, path: Path) -> None:
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if self._process.returncode is not None:
                raise UserError(f"{path}: {self.spec.kind} could not load the model ({_reason(self._log)})")
            if await self.healthy():
                return
            await asyncio.sleep(0.05)
        raise UserError(f"{path}: {self.spec.kind} did not come up within {START_SECONDS:.0f} s")

    async def _try(self, path: Path) -> None:
        """Compute a token: only then vLLM finds out that it has no kernel for a model, and compiles what it needs."""
        try:
            async for _ in self.complete(Request([0], 1, logprobs=1)):
                pass
        except EngineError:
            raise UserError(f"{path}: {self.spec.kind} cannot compute the model ({_reason(self._log)})") from None

    async def healthy(self) -> bool:
        """Whether the child answers."""
        try:
            return (await self._client.get("/health", timeout=5.0)).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process.returncode is None

    async def ended(self) -> None:
        """Returns when the child has ended."""
        await self._process.wait()

    async def has_ended(self, seconds: float) -> bool:
        """Whether the child ends within so many seconds."""
        try:
            await asyncio.wait_for(self.ended(), seconds)
        except TimeoutError:
            return False
        return True

    async def complete(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Compute a completion; leaving the iterator stops the engine's work on it.

        Raises:
            EngineError: the engine refuses, breaks off, or is gone.
        """
        finish: str | None = None
        try:
            async with self._client.stream("POST", "/v1/completions", json=request.body()) as response:
                if response.status_code != 200:
                    told = (await response.aread()).decode(errors="replace")[:300]
                    raise EngineError(f"{self.spec.kind} answered {response.status_code}: {told}")
                async for line in _lines(response):
                    if not line.startswith(b"data:") or line == b"data: [DONE]":
                        continue
                    event = json.loads(line.removeprefix(b"data:"))
                    if "error" in event:
                        raise EngineError(f"{self.spec.kind}: {event['error']}")
                    choice: JsonObject = next(iter(event.get("choices") or ()), {})
                    finish = choice.get("finish_reason") or finish
                    if delta := _delta(event, choice):
                        yield delta
        except (httpx.HTTPError, httpx.StreamError, ValueError) as error:
            raise EngineGoneError(f"{self.spec.kind} broke off ({type(error).__name__})") from None
        if finish is None:
            raise EngineGoneError(f"{self.spec.kind} broke off")
        yield Delta(finish=finish)

    async def embed(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """A vector of length 1 for each of the texts, given as tokens.

        Raises:
            EngineRefusedError: a text is too long for it.
            EngineError: it is gone, or does not do what it should.
        """
        body = {"model": "model", "input": [list(text) for text in texts], "encoding_format": "float"}
        try:
            response = await self._client.post("/v1/embeddings", json=body)
            told = response.json()
            if response.status_code == 400:
                raise EngineRefusedError(_message(told))
            if response.status_code != 200:
                raise EngineError(f"{self.spec.kind} answered {response.status_code}: {_message(told)}")
            return [each["embedding"] for each in sorted(told["data"], key=lambda each: int(each["index"]))]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise EngineGoneError(f"{self.spec.kind} broke off ({type(error).__name__})") from None

    async def close(self) -> None:
        """End the child, whatever it does."""
        await self._client.aclose()
        await _end(self._process)
        self._log.close()


def _message(told: JsonObject) -> str:
    error = told.get("error")
    return str(error.get("message") if isinstance(error, dict) else error or told)[:300]


def _delta(event: JsonObject, choice: JsonObject) -> Delta | None:
    """What an event tells; None where it tells nothing."""
    usage = event.get("usage") or {}
    tokens = usage.get("completion_tokens")
    delta = Delta(
        choice.get("text") or "",
        None,
        tokens,
        int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
        tuple(_entries(choice)),
        tuple(event.get("prompt_logprobs") or ()),
    )
    return delta if delta.text or delta.entries or delta.prompt_entries or tokens is not None else None


def _entries(choice: JsonObject) -> list[TokenEntry]:
    """Tokens as llama.cpp and our own engine tell them, or as vLLM does (OpenAI's older shape); not the one that ends
    an answer."""
    told: JsonObject = choice.get("logprobs") or {}
    if "content" in told:
        return [entry for entry in told["content"] if entry["bytes"]]
    columns = (told.get("tokens", ()), told.get("token_logprobs", ()), told.get("top_logprobs", ()))
    entries: list[TokenEntry] = [
        {**_entry(text, logprob), "top_logprobs": [_entry(*each) for each in (top or {}).items()]}
        for text, logprob, top in zip(*columns, strict=True)
    ]
    is_ended = choice.get("finish_reason") == "stop" and choice.get("stop_reason") is None  # else by a word of `stop`
    return entries[:-1] if is_ended else entries


def _entry(text: str, logprob: float) -> TopEntry:
    return {"id": -1, "token": text, "bytes": list(text.encode()), "logprob": logprob}


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of a stream of events. Only a line feed ends one; httpx breaks at what JSON may hold, as U+2028."""
    held = b""
    async for part in response.aiter_bytes():
        *lines, held = (held + part).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r")
    if held:
        yield held


def _command(spec: EngineSpec, port: int) -> list[str]:
    if spec.kind != EngineKind.VLLM:
        return [sys.executable, "-m", f"model.serving.{spec.kind}"]
    return vllm_command(spec, port)


async def _address(process: asyncio.subprocess.Process, path: Path, log: IO[bytes]) -> str:
    assert process.stdout is not None
    line = await process.stdout.readline()
    told: dict[str, str] = json.loads(line) if line.startswith(b"{") else {}
    if "address" in told:
        return told["address"]
    raise UserError(f"{path}: cannot be served ({told.get('error') or _reason(log)})")


def _reason(log: IO[bytes]) -> str:
    log.seek(0)
    text = log.read().decode(errors="replace")
    lines = text.strip().splitlines()
    return (first_error(text) or lines[-1])[:300] if lines else "no reason given"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
