"""What keeps the server up: how large, how long and how many requests may be, and who may ask."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from starlette.requests import Request

from flows.serving.errors import ApiError

__all__ = ["Admission", "Limits", "check_key", "read_body"]


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
        self.limits = limits
        self._turns = asyncio.Semaphore(limits.concurrency)
        self.running = self.waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether one more request is sent away."""
        return self.waiting >= self.limits.waiting and self._turns.locked()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; ApiError 429 when the line is full."""
        if self.is_full:
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


async def read_body(request: Request, limits: Limits, deadline: float) -> bytes:
    """The body of a request, in bounds.

    Raises:
        ApiError: it is too large (413), its pieces come too slowly, or all of it does (408).
    """
    body = bytearray()
    parts = aiter(request.stream())
    while True:
        patience = min(limits.client_seconds, deadline - asyncio.get_running_loop().time())
        try:
            body += await asyncio.wait_for(anext(parts), patience)
        except StopAsyncIteration:
            return bytes(body)
        except TimeoutError:
            raise ApiError(
                408, f"the request did not arrive within {patience:g} s of silence, or {limits.seconds:g} s in all"
            ) from None
        if len(body) > limits.request_bytes:
            raise ApiError(
                413, f"the request has more than {limits.request_bytes:,} bytes; shorten it", code="request_too_large"
            )
