"""Turns away what a web page elsewhere, or a name rebound to this machine, sends to a server of ours.

`OriginGuard` is ASGI middleware for any application. A request has to name the server by one of its own names (`Host`),
and must not come from a page of another origin. Binding to loopback keeps other machines out, but not the pages that
the browser of this machine shows: those may send requests to any address, and a DNS name may be pointed at 127.0.0.1
while its page is open (DNS rebinding). Another port of the same host is another origin too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADERS", "LOOPBACK_NAMES", "OriginGuard", "foreign", "host_name", "refuse"]

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
UNSAFE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
DEFAULT_PORTS = {"http": 80, "https": 443}
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
}
"""Added to every answer that does not say otherwise: no page elsewhere may frame, embed or read it."""


class OriginGuard:
    """ASGI middleware: own host name and own origin only.

    Answers 403 where the `Host` header names none of `hosts`, where `Origin` or `Sec-Fetch-Site` tell of a page
    elsewhere (except that a link on such a page may be followed), and 415 where a body says nothing of its type, which
    is what a page may send anywhere without being asked.

    Args:
        hosts: Names of the server, each ``name`` (any port) or ``name:port``; a page whose origin is one of them
            counts as the server's own, as behind a proxy that rewrites `Host`. IPv6 addresses stand in brackets.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = LOOPBACK_NAMES) -> None:
        self._app = app
        self._hosts = frozenset(name.lower() for name in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if reason := foreign(scope, self._hosts):
            await refuse(scope, receive, send, 403, reason)
        elif _body_without_type(scope, headers):
            await refuse(scope, receive, send, 415, "say what the body is: Content-Type: application/json")
        else:
            await self._app(scope, receive, _with_headers(send))


def foreign(scope: Scope, hosts: Collection[str]) -> str:
    """Why a request is not for this server or not from it; empty where nothing speaks against it.

    Args:
        hosts: the server's own names, in lower case, as `OriginGuard` has them.
    """
    headers = Headers(scope=scope)
    named = headers.getlist("host")
    if len(named) != 1 or not (named[0].lower() in hosts or host_name(named[0]) in hosts):
        shown = (named or ["none"])[0][:100]
        return f"{shown!r} is not a name of this server; if it should be, add it to DEEPMILL_ALLOWED_HOSTS"
    if any(not _is_own_origin(origin, named[0], hosts) for origin in headers.getlist("origin")):
        return "this server answers pages of its own origin only"
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not _is_followed_link(scope, headers):
        return "this server answers pages of its own origin only"
    return ""


def _is_own_origin(origin: str, host: str, hosts: Collection[str]) -> bool:
    """Whether a page of `origin` is this server's: the port counts, for another port may be another person's."""
    authority = _authority(origin)
    return authority is not None and (authority == host.lower() or authority in {*hosts} - {*LOOPBACK_NAMES})


def host_name(host: str) -> str:
    """The name of a ``name:port``, in lower case."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and (port.isdigit() or not port) and not name.endswith(":") else host.lower()


async def refuse(
    scope: Scope, receive: Receive, send: Send, status: int, reason: str, headers: dict[str, str] | None = None
) -> None:
    """Answer with `status` and one line; a WebSocket is closed before it is accepted, which its client sees as 403."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    await PlainTextResponse(f"{reason}\n", status, HEADERS | {"connection": "close"} | (headers or {}))(
        scope, receive, send
    )


def _authority(origin: str) -> str | None:
    """``name:port`` of an origin as a `Host` header would have it; None for ``null`` and what is no origin."""
    try:
        parts = urlsplit(origin.lower())
        host, port = parts.hostname, parts.port
    except ValueError:  # a bracket or a port that is none
        return None
    if parts.scheme not in DEFAULT_PORTS or not host:
        return None
    name = f"[{host}]" if ":" in host else host
    return name if port in (None, DEFAULT_PORTS[parts.scheme]) else f"{name}:{port}"


def _is_followed_link(scope: Scope, headers: Headers) -> bool:
    """Whether a person followed a link from elsewhere: a page of its own, that is, which changes nothing."""
    return (
        scope["type"] == "http"
        and scope["method"] in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _body_without_type(scope: Scope, headers: Headers) -> bool:
    if scope["type"] != "http" or scope["method"] not in UNSAFE_METHODS or headers.get("content-type"):
        return False
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _with_headers(send: Send) -> Send:
    """Adds `HEADERS`, and takes out what would let pages of other origins read the answer."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [(name, value) for name, value in message.get("headers", ()) if not _shares(name)]
            named = {name.lower() for name, _ in given}
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in named]
            message = {**message, "headers": given + added}
        await send(message)

    return guarded


def _shares(name: bytes) -> bool:
    return name.lower().startswith(b"access-control-")
