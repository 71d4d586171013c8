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
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import httpx

from infra.errors import DeepmillError, UserError
from infra.json_objects import JsonObject
from model.serving.spec import CompletionRequest, EngineKind, EngineSpec
from model.serving.vllm import environment, first_error, vllm_command

__all__ = ["Delta", "Engine", "EngineError", "EngineGoneError", "Request"]

START_SECONDS = 600.0
"""A large model is read from disk in this time."""
STOP_SECONDS = 15.0


class EngineError(DeepmillError):
    """The engine is gone, or does not do what it should."""


class EngineGoneError(EngineError):
    """The engine broke off, or could not be reached: it may have died."""


@dataclass(frozen=True)
class Request:
    """One completion to compute."""

    prompt: list[int]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def body(self) -> CompletionRequest:
        """As OpenAI's completion request; the extra keys switch off what llama.cpp and vLLM would add by themselves."""
        return {
            "model": "model",
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": list(self.stop),
            "stream": True,
            "stream_options": {"include_usage": True},
            "top_k": 0,
            "min_p": 0.0,
            "repeat_penalty": 1.0,
        }


@dataclass(frozen=True)
class Delta:
    """A piece of a completion."""

    text: str = ""
    finish: str | None = None
    """``stop`` or ``length``, at the end."""
    completion_tokens: int | None = None
    """Tokens written in all, where the engine says so."""


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
    async def start(cls, kind: EngineKind, path: Path, *, context: int, slots: int, threads: int) -> Engine:
        """Start a child and wait until it answers.

        Raises:
            UserError: the engine is not installed, or cannot load the file.
        """
        spec = EngineSpec(kind.value, str(path), secrets.token_urlsafe(24), context, slots, threads)
        port = _free_port() if kind is EngineKind.VLLM else 0
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
        """Compute a token: vLLM finds out only then that it has no kernel for a model."""
        try:
            async for _ in self.complete(Request([0], 1)):
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
                    tokens = (event.get("usage") or {}).get("completion_tokens")
                    if choice.get("text") or tokens is not None:
                        yield Delta(choice.get("text") or "", None, tokens)
        except (httpx.HTTPError, httpx.StreamError, ValueError) as error:
            raise EngineGoneError(f"{self.spec.kind} broke off ({type(error).__name__})") from None
        if finish is None:
            raise EngineGoneError(f"{self.spec.kind} broke off")
        yield Delta(finish=finish)

    async def close(self) -> None:
        """End the child, whatever it does."""
        await self._client.aclose()
        await _end(self._process)
        self._log.close()


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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
