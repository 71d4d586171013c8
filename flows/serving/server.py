"""Runs the server: uvicorn with the limits that a listening socket needs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import struct
from collections.abc import Callable, Sequence

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from flows.serving.app import build
from flows.serving.limits import Limits
from flows.serving.metrics import Metrics
from flows.serving.model_manager import ModelManager
from infra.errors import UserError
from infra.http_guard import LOOPBACK_NAMES

__all__ = ["listen", "serve"]

GRACE_SECONDS = 30
"""From a stop signal to the end of requests under way."""
TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; UserError when the address is taken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UserError(f"{host}:{port}: cannot listen there ({error.strerror}); choose another --port") from None


class _BoundedProtocol(H11Protocol):
    """Lets a client go that keeps the server waiting; uvicorn itself waits for ever.

    That is one whose request line and headers do not arrive in time, that does not take what it is sent, that does not
    end a connection that we have closed, or that has left where nobody reads (its next request waits for this answer).
    """

    _since: dict[str, float]
    """Since when the client keeps us waiting, by what for."""
    _next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._since = {}
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait("head")
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._since.pop("head", None)
        elif self.timeout_keep_alive_task is None:
            self._wait("head")  # or for the rest of a request that was answered before it had come

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait("taking")

    def resume_writing(self) -> None:
        self._since.pop("taking", None)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _wait(self, what: str) -> None:
        self._since.setdefault(what, self.loop.time())

    def _look(self) -> None:
        """Whether the client's time is up, again and again."""
        patience = self.timeout_keep_alive
        if self.transport.is_closing():
            self._wait("closing")
        late = {what for what, since in self._since.items() if self.loop.time() - since >= patience}
        if late & {"taking", "closing"} or (self.flow.read_paused and _has_left(self.transport)):
            _reset(self.transport)
        elif late:
            self.transport.close()
        self._next_look = self.loop.call_later(patience / 4, self._look)


def _reset(transport: asyncio.Transport) -> None:
    """End a connection at once; else the kernel would keep for its client what was not taken."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _has_left(transport: asyncio.Transport) -> bool:
    """Whether the other end has closed the connection; Linux says so, elsewhere writing shows it."""
    if not hasattr(socket, "TCP_INFO"):
        return False
    state: int = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state in (TCP_CLOSE, TCP_CLOSE_WAIT)


def serve(
    manager: ModelManager,
    limits: Limits,
    metrics: Metrics,
    listener: socket.socket,
    *,
    keys: Sequence[str],
    names: Sequence[str] = (),
    origins: Sequence[str] = (),
    ready: Callable[[ModelManager], None],
) -> None:
    """Serve until a stop signal; `ready` is called once requests are taken.

    Args:
        keys: API keys, one of which a request must bear; none for open access.
        names: that requests may address the server by, besides those of loopback.
        origins: of pages elsewhere that may ask the API.

    Raises:
        UserError: the first version cannot be served.
    """
    with contextlib.suppress(ValueError, OSError):  # a connection is a file descriptor
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most if most != resource.RLIM_INFINITY else 65536, most))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = uvicorn.Config(
        build(manager, limits, metrics, keys=keys, hosts=(*LOOPBACK_NAMES, *names), origins=origins),
        http=_BoundedProtocol,
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(max(1, limits.client_seconds)),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    asyncio.run(_run(uvicorn.Server(config), manager, listener, ready))


async def _run(
    server: uvicorn.Server, manager: ModelManager, listener: socket.socket, ready: Callable[[ModelManager], None]
) -> None:
    try:
        await manager.open()
        ready(manager)
        await server.serve(sockets=[listener])
    finally:
        await manager.close()
