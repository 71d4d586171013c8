"""Runs the server: uvicorn with the limits that a listening socket needs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import Callable, Sequence

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from flows.serving.app import build
from flows.serving.limits import Limits
from flows.serving.metrics import Metrics
from flows.serving.model_manager import ModelManager
from infra.errors import UserError

__all__ = ["listen", "serve"]

GRACE_SECONDS = 30
"""From a stop signal to the end of requests under way."""
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; UserError when the address is taken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UserError(f"{host}:{port}: cannot listen there ({error.strerror}); choose another --port") from None


class _BoundedProtocol(H11Protocol):
    """Lets a client go whose request line and headers do not arrive in time; uvicorn itself waits for ever."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self.timeout_keep_alive_task is None:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def serve(
    house: ModelManager,
    limits: Limits,
    metrics: Metrics,
    listener: socket.socket,
    *,
    keys: Sequence[str],
    ready: Callable[[ModelManager], None],
) -> None:
    """Serve until a stop signal; `ready` is called once requests are taken.

    Raises:
        UserError: the first version cannot be served.
    """
    with contextlib.suppress(ValueError, OSError):  # a connection is a file descriptor
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most if most != resource.RLIM_INFINITY else 65536, most))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    address = listener.getsockname()[0]
    hosts = LOOPBACK if address in LOOPBACK else ()
    config = uvicorn.Config(
        build(house, limits, metrics, keys=keys, hosts=hosts),
        http=_BoundedProtocol,
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(max(1, limits.client_seconds)),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    asyncio.run(_run(uvicorn.Server(config), house, listener, ready))


async def _run(
    server: uvicorn.Server, house: ModelManager, listener: socket.socket, ready: Callable[[ModelManager], None]
) -> None:
    try:
        await house.open()
        ready(house)
        await server.serve(sockets=[listener])
    finally:
        await house.close()
