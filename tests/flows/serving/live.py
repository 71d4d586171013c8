"""A running server for tests, in a thread of this process: real sockets, real engines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvicorn

from flows.serving.limits import Limits
from flows.serving.metrics import Metrics
from flows.serving.model_manager import ModelManager, Place, Source, Version
from flows.serving.server import listen, serve
from infra.errors import UserError
from model.serving.spec import EngineKind
from pipeline.index.spans import Sources

LIMITS = Limits(concurrency=2, waiting=400, new_tokens=80, context=160, seconds=60.0, request_bytes=20_000)


@dataclass
class Shelf:
    """Versions that a test may change while they are served."""

    versions: dict[str, Path]
    wanted: str | None = "1"
    name: str = "talker"
    fetched: list[str] = field(default_factory=list)
    aliases: dict[str, set[str]] = field(default_factory=lambda: {"1": {"champion", "night-ly"}, "2": {"challenger"}})

    sources: Sources | None = None

    def fetch(self, number: str) -> Version:
        self.fetched.append(number)
        if number not in self.versions:
            raise UserError(f"{self.name}/{number}: not in the registry")
        return Version(self.name, number, self.versions[number])


@dataclass
class Live:
    """What tests need of the server."""

    url: str
    port: int
    manager: ModelManager
    shelf: Shelf

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60.0, trust_env=False, **options)


@contextlib.contextmanager
def live(
    shelf: Shelf,
    cache: Path,
    *,
    keys: Sequence[str] = (),
    engine: EngineKind = EngineKind.AUTO,
    drafts: int = 0,
    **limits: Any,
) -> Iterator[Live]:
    """Serve `shelf` on a free port."""
    chosen = replace(LIMITS, **limits)
    metrics = Metrics()
    place = Place(engine, chosen.context, chosen.concurrency, 1, cache, drafts=drafts)
    source = Source(
        lambda: shelf.wanted, shelf.fetch, lambda number: shelf.aliases.get(number, set()), lambda number: shelf.sources
    )
    manager = ModelManager(source, place, metrics, poll_seconds=0.1)
    listener: socket.socket = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    up = threading.Event()
    servers: list[uvicorn.Server] = []
    failed: list[BaseException] = []
    original = uvicorn.Server.__init__

    def remember(self: uvicorn.Server, config: uvicorn.Config) -> None:
        original(self, config)
        servers.append(self)

    def run() -> None:
        try:
            serve(manager, chosen, metrics, listener, keys=keys, ready=lambda manager: up.set())
        except BaseException as error:
            failed.append(error)
            up.set()

    uvicorn.Server.__init__ = remember  # type: ignore[method-assign]
    try:
        thread = threading.Thread(target=run)
        thread.start()
        assert up.wait(600)  # as long as an engine is given
    finally:
        uvicorn.Server.__init__ = original  # type: ignore[method-assign]
    if failed:
        thread.join()
        raise failed[0]
    try:
        yield Live(f"http://127.0.0.1:{port}", port, manager, shelf)
    finally:
        servers[0].should_exit = True
        thread.join(60)
        assert not thread.is_alive()
        assert not failed, failed


def sure(folder: Path, target: Path) -> Path:
    """A copy of a model that takes the likeliest token where a request names no temperature."""
    shutil.copytree(folder, target)
    file = target / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_sample": False}))
    return target


@contextlib.contextmanager
def frozen_engine() -> Iterator[None]:
    """The engine stands still meanwhile, however fast the machine."""
    found = psutil.Process().children(recursive=True)
    engines = [child for child in found if {"model.serving.own", "model.serving.llama"} & set(child.cmdline())]
    frozen = [child for child in engines if "infra.supervisor" not in child.cmdline()]
    assert frozen
    for child in frozen:
        child.suspend()
    try:
        yield
    finally:
        for child in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.resume()


def until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def post(body: dict[str, Any], *, path: str = "/v1/chat/completions", more: str = "") -> bytes:
    """A request as it goes over the wire."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def raw(port: int, sent: bytes, seconds: float = 90.0) -> bytes:
    """What the server says to `sent`, up to its closing the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), seconds)
    finally:
        writer.close()
