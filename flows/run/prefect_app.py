"""Prefect's server behind the guards of our own, and the program that serves it for a single run.

Prefect asks programs for its login and pages for a token against forged requests, but takes any `Host` and lets a page
of any origin in. In front of it stand `infra.http_guard` and `infra.login_guard`; its own checks stay on behind them.
``python -m flows.run.prefect_app PORT`` serves on loopback, without pages.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import uvicorn
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.credentials import Credential
from infra.http_guard import LOOPBACK_NAMES
from infra.imports import importing
from infra.json_objects import JsonObject
from infra.login_guard import guarded
from infra.private_files import PRIVATE_UMASK, close_files

__all__ = ["guarded_prefect", "serve_app"]

PROBES = ("/api/health", "/api/ready")
PAGES_OF_PREFECT = ("/docs", "/redoc", "/openapi.json")
DATABASE = "prefect.db"
PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'self'; frame-ancestors 'self'"
)
"""Of Prefect's pages: they ask nobody but this server for anything."""


def guarded_prefect(credential: Credential, hosts: tuple[str, ...]) -> ASGIApp:
    """Prefect's application: its files are anyone's to see, its API is for whoever has the login.

    WebSockets without a login pass, for Prefect's clients show it in the first message, and Prefect asks for that.
    """
    os.environ.setdefault("PY_KEY_VALUE_DISABLE_BEARTYPE", "true")  # a tenth of the import, to check types again
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    home = Path(get_current_settings().home)
    close_files([path for path in home.glob(f"{DATABASE}*") if path.is_file()])
    app = _Pages(create_app(final=True), credential)
    return guarded(app, credential, hosts, is_open=_is_open, challenge=False)


def _is_open(scope: Scope) -> bool:
    path = scope["path"]
    if scope["type"] == "websocket" or (path in PROBES and scope["method"] in ("GET", "HEAD")):
        return True
    return not (path == "/api" or path.startswith(("/api/", *PAGES_OF_PREFECT)))


class _Pages:
    """Tells Prefect's pages to ask nobody for a password who has shown it already, and that their API is right here.

    They keep the password where every script of theirs can read it; with the cookie they need none.
    """

    def __init__(self, app: ASGIApp, credential: Credential) -> None:
        self._app, self._credential = app, credential

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].endswith("/ui-settings"):
            await self._app(scope, receive, _with_policy(scope, send))
            return
        headers = Headers(scope=scope)
        known = self._credential.matches(headers.get("authorization", ""))
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        parts: list[bytes] = []
        start: Message = {}

        async def gather(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                body = _settings(b"".join(parts), headers["host"], scope["scheme"], known=known)
                kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
                fresh = [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
                await send({**start, "headers": kept + fresh})
                await send({"type": "http.response.body", "body": body})

        await self._app({**scope, "headers": plain}, receive, gather)


def _with_policy(scope: Scope, send: Send) -> Send:
    if scope["type"] != "http" or scope["path"].startswith("/api"):
        return send

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            policy = (b"content-security-policy", PAGE_POLICY.encode())
            message = {**message, "headers": [*message.get("headers", ()), policy]}
        await send(message)

    return add


def _settings(body: bytes, host: str, scheme: str, *, known: bool) -> bytes:
    try:
        told: JsonObject = json.loads(body)
    except ValueError:
        return body
    return json.dumps(told | {"api_url": f"{scheme}://{host}/api"} | ({"auth": None} if known else {})).encode()


def serve_app(app: ASGIApp, host: str, port: int) -> None:
    """Serve until told to stop; no addresses are logged, for a link has a token in its address."""
    uvicorn.run(app, host=host, port=port, log_level="error", access_log=False, server_header=False, lifespan="on")


def main(port: int) -> None:
    """Serve for the run that started this: its login is in the environment, as Prefect wants it."""
    os.umask(PRIVATE_UMASK)
    user, _, password = os.environ["PREFECT_SERVER_API_AUTH_STRING"].partition(":")
    with importing():
        app = guarded_prefect(Credential(user, password), LOOPBACK_NAMES)
    serve_app(app, "127.0.0.1", port)


if __name__ == "__main__":
    main(int(sys.argv[1]))
