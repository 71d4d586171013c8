"""Pages of other origins that may ask the API, where whoever runs the server has named them (CORS).

Without a name nothing is opened: `infra.http_guard` turns such pages away. A named page may ask ``/v1`` and read the
answers; it still needs an API key, and cookies are never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.errors import UserError
from infra.http_guard import OriginGuard

__all__ = ["ORIGINS", "PageGuard", "read_origins"]

ORIGINS = "DEEPMILL_CORS_ORIGINS"
SHOWN = "X-Request-Id, X-Deepmill-Model, Retry-After"
HIDDEN = (b"origin", b"sec-fetch-site")


def read_origins(text: str) -> list[str]:
    """Origins separated by commas.

    Raises:
        UserError: one of them is none; a star would open the server to every page.
    """
    found = [each.strip().rstrip("/") for each in text.split(",") if each.strip()]
    for origin in found:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise UserError(f"{ORIGINS}: {origin!r} is no origin; name each page's, as https://chat.example.org")
    return found


class PageGuard:
    """ASGI middleware: `OriginGuard`, which `origins` get past to ``/v1``.

    Args:
        hosts: names of the server.
        origins: of pages that may ask, as a browser writes them.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], origins: Sequence[str] = ()) -> None:
        hosts = tuple(hosts)
        self._guard = OriginGuard(app, hosts)
        self._preflight = OriginGuard(Response(status_code=204), hosts)
        self._origins = frozenset(origin.lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        origins = headers.getlist("origin")
        if len(origins) != 1 or origins[0].lower() not in self._origins or not scope["path"].startswith("/v1/"):
            await self._guard(scope, receive, send)
            return
        told = {"Access-Control-Allow-Origin": origins[0], "Access-Control-Expose-Headers": SHOWN}
        guard = self._guard
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            wanted = headers.get("access-control-request-headers") or "*"
            told |= {"Access-Control-Allow-Methods": "GET, POST", "Access-Control-Allow-Headers": wanted}
            guard = self._preflight
        passed = [(name, value) for name, value in scope["headers"] if name.lower() not in HIDDEN]
        await guard({**scope, "headers": passed}, receive, _opened(send, told))


def _opened(send: Send, told: dict[str, str]) -> Send:
    """Adds what lets a page elsewhere read the answer, after the guard took such things out."""

    async def opened(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(told | {"Cross-Origin-Resource-Policy": "cross-origin"})
            headers.add_vary_header("Origin")
        await send(message)

    return opened
