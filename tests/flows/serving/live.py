"""A running server for tests, in a thread of this process: real sockets, real engines."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from flows.serving.limits import Limits
from flows.serving.metrics import Metrics
from flows.serving.model_manager import ModelManager, Place, Source, Version
from flows.serving.server import listen, serve
from infra.errors import UserError
from model.serving.spec import EngineKind

LIMITS = Limits(concurrency=2, waiting=400, new_tokens=80, context=160, seconds=60.0, request_bytes=20_000)


@dataclass
class Shelf:
    """Versions that a test may change while they are served."""

    versions: dict[str, Path]
    wanted: str | None = "1"
    fetched: list[str] = field(default_factory=list)

    def fetch(self, number: str) -> Version:
        self.fetched.append(number)
        if number not in self.versions:
            raise UserError(f"talker/{number}: not in the registry")
        return Version("talker", number, self.versions[number])


@dataclass
class Live:
    """What tests need of the server."""

    url: str
    port: int
    house: ModelManager

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60.0, trust_env=False, **options)


@contextlib.contextmanager
def live(
    shelf: Shelf,
    cache: Path,
    *,
    keys: Sequence[str] = (),
    engine: EngineKind = EngineKind.AUTO,
    **limits: Any,
) -> Iterator[Live]:
    """Serve `shelf` on a free port."""
    chosen = replace(LIMITS, **limits)
    metrics = Metrics()
    place = Place(engine, chosen.context, chosen.concurrency, 1, cache)
    house = ModelManager(Source(lambda: shelf.wanted, shelf.fetch), place, metrics, poll_seconds=0.1)
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
            serve(house, chosen, metrics, listener, keys=keys, ready=lambda house: up.set())
        except BaseException as error:
            failed.append(error)
            up.set()

    uvicorn.Server.__init__ = remember  # type: ignore[method-assign]
    try:
        thread = threading.Thread(target=run)
        thread.start()
        assert up.wait(120)
    finally:
        uvicorn.Server.__init__ = original  # type: ignore[method-assign]
    if failed:
        thread.join()
        raise failed[0]
    try:
        yield Live(f"http://127.0.0.1:{port}", port, house)
    finally:
        servers[0].should_exit = True
        thread.join(60)
        assert not thread.is_alive()
        assert not failed, failed


async def raw(port: int, sent: bytes, seconds: float = 20.0) -> bytes:
    """What the server says to `sent`, up to its closing the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), seconds)
    finally:
        writer.close()
