"""What keeps the server up: how large, how long and how many requests may be, and who may ask."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from flows.serving.protocol import ApiError

__all__ = ["Admission", "Limits", "SlowClients", "check_key"]


@dataclass(frozen=True)
class Limits:
    """Of one server."""

    concurrency: int = 4
    """Requests computed at once."""
    waiting: int = 64
    """Requests that may wait for their turn; more are sent away with 429."""
    request_bytes: int = 1 << 20
    """Most bytes of a request."""
    context: int = 4096
    """Most tokens of prompt and answer together; never more than the model's own."""
    new_tokens: int = 2048
    """Most tokens of an answer, and what a request that names none gets."""
    seconds: float = 300.0
    """Most time from a request's arrival to its end."""
    client_seconds: float = 20.0
    """Most time that a client may leave the server waiting for the next piece of a request or for taking an answer."""


class Admission:
    """Turns: `concurrency` at once, `waiting` in line."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turns = asyncio.Semaphore(limits.concurrency)
        self.running = self.waiting = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; ApiError 429 when the line is full."""
        if self.waiting >= self._limits.waiting:
            raise ApiError(429, "too many requests wait already; try again soon", code="overloaded", retry=1)
        self.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._turns.release()


def check_key(keys: Sequence[str], authorization: str | None) -> None:
    """ApiError 401 unless `authorization` bears one of `keys`, or there are none."""
    if not keys:
        return
    scheme, _, given = (authorization or "").partition(" ")
    known = [hmac.compare_digest(given.strip().encode(), key.encode()) for key in keys]  # all: equal time for each
    if scheme.lower() != "bearer" or not any(known):
        raise ApiError(401, "no valid API key; send it as Authorization: Bearer KEY", code="invalid_api_key")


class _NotTakenError(Exception):
    """The client does not take its answer."""


class SlowClients:
    """ASGI middleware: a client that stops sending, or stops taking, is let go."""

    def __init__(self, app: Any, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complete = False

        async def timed_receive() -> Any:
            nonlocal complete
            if complete:  # what follows the body is only ever the client's leaving
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._seconds)
            except TimeoutError:
                raise ApiError(408, f"the request did not arrive within {self._seconds:g} s of silence") from None
            complete = message["type"] != "http.request" or not message.get("more_body")
            return message

        async def timed_send(message: Any) -> None:
            try:
                await asyncio.wait_for(send(message), self._seconds)
            except TimeoutError:
                raise _NotTakenError from None

        with contextlib.suppress(_NotTakenError):
            await self._app(scope, timed_receive, timed_send)
