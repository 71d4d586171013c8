"""Lets in who has the login: programs by HTTP's basic authentication, browsers by a link and then a cookie.

`LoginGuard` is ASGI middleware, to be put behind `infra.http_guard.OriginGuard`, which see: a browser sends a cookie
with whatever request a page makes, so the page has to be the server's own.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.credentials import SESSION_SECONDS, Credential
from infra.http_guard import UNSAFE_METHODS, OriginGuard, refuse

__all__ = ["LoginGuard", "guarded"]

ASK = "this server wants a login: `deepmill login` prints links that have it"


def guarded(
    app: ASGIApp,
    credential: Credential,
    hosts: tuple[str, ...],
    *,
    is_open: Callable[[Scope], bool],
    delegates: bool = False,
    challenge: bool = True,
) -> ASGIApp:
    """`app` behind both guards; the arguments are theirs."""
    return OriginGuard(LoginGuard(app, credential, is_open=is_open, delegates=delegates, challenge=challenge), hosts)


class LoginGuard:
    """ASGI middleware: 401 for whoever does not show the login.

    A ``GET`` with ``?token=`` of a link sets the cookie and is redirected to the same address without it. To the
    application a session looks like basic authentication, so that its own check, where it has one, passes as well.

    Args:
        is_open: Which requests need no login: health checks, and what the application judges by itself.
        delegates: Whether the application judges other logins than this one, of users of its own.
        challenge: Whether the answer makes a browser ask for user and password itself.
    """

    def __init__(
        self,
        app: ASGIApp,
        credential: Credential,
        *,
        is_open: Callable[[Scope], bool],
        delegates: bool = False,
        challenge: bool = True,
    ) -> None:
        self._app, self._credential, self._is_open, self._delegates = app, credential, is_open, delegates
        self._ask = {"www-authenticate": 'Basic realm="deepmill", charset="UTF-8"'} if challenge else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["type"] == "http" and scope["method"] == "GET" and (token := _token(scope)) is not None:
            await self._log_in(token, scope, receive, send)
            return
        given = headers.get("authorization")
        if given is not None and (self._delegates or self._credential.matches(given)):
            await self._app(scope, receive, send)
        elif self._has_session(headers):
            if scope["type"] == "http" and scope["method"] in UNSAFE_METHODS and not _tells_its_page(headers):
                await refuse(scope, receive, send, 403, "a request with a cookie has to say which page it is from")
                return
            await self._app(_with_login(scope, self._credential), receive, send)
        elif self._is_open(scope):
            await self._app(scope, receive, send)
        else:
            await refuse(scope, receive, send, 401, ASK, self._ask)

    def _has_session(self, headers: Headers) -> bool:
        given = [cookie_parser(text).get(self._credential.cookie, "") for text in headers.getlist("cookie")]
        return any(self._credential.is_session(session) for session in given)

    async def _log_in(self, token: str, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._credential.is_token(token):
            await refuse(scope, receive, send, 401, f"the token of this link is not the server's; {ASK}", self._ask)
            return
        answer = RedirectResponse(_without_token(scope), 303, {"cache-control": "no-store"})
        answer.set_cookie(
            self._credential.cookie,
            self._credential.session(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="lax",
            secure=scope.get("scheme") == "https",
        )
        await answer(scope, receive, send)


def _token(scope: Scope) -> str | None:
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return next((value for name, value in query if name == "token"), None)


def _without_token(scope: Scope) -> str:
    """The path and query of the request, but for the token; never an address elsewhere (``//host``)."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    kept = urlencode([(name, value) for name, value in query if name != "token"])
    path = "/" + quote(scope["path"]).lstrip("/")
    return f"{path}?{kept}" if kept else path


def _tells_its_page(headers: Headers) -> bool:
    """Whether the guard before this one could see that the page is our own; every browser of today says so."""
    return "origin" in headers or headers.get("sec-fetch-site") in ("same-origin", "none")


def _with_login(scope: Scope, credential: Credential) -> Scope:
    kept = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
    return {**scope, "headers": [*kept, (b"authorization", credential.basic.encode())]}
