"""The HTTP server: OpenAI's API, health, metrics and the chat page, in front of the served model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from flows.serving.answers import Answer, engine_request
from flows.serving.limits import Admission, Limits, SlowClients, check_key
from flows.serving.metrics import CONTENT_TYPE, Metrics
from flows.serving.model_manager import ModelManager, Served
from flows.serving.protocol import ApiError, ChatBody, CompletionBody, parse

__all__ = ["build"]

log = logging.getLogger("deepmill.serve")
PAGE = Path(__file__).parent / "chat_page"
PAGE_FILES = {
    "/": ("chat.html", "text/html"),
    "/chat.js": ("chat.js", "text/javascript"),
    "/chat.css": (
        "chat.css",
        "text/css",
    ),
}
SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
Handler = Callable[[Request], Any]


def build(
    house: ModelManager, limits: Limits, metrics: Metrics, *, keys: Sequence[str] = (), hosts: Sequence[str] = ()
) -> Any:
    """The ASGI application.

    Args:
        keys: API keys, one of which a request must bear; none for open access.
        hosts: names that a request may address the server by (against rebound DNS names); any when empty.
    """
    front = _Front(house, limits, metrics, keys)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await house.close()

    routes = [
        Route("/v1/chat/completions", front.guarded(front.chat), methods=["POST"]),
        Route("/v1/completions", front.guarded(front.completions), methods=["POST"]),
        Route("/v1/models", front.guarded(front.models)),
        Route("/v1/models/{name:path}", front.guarded(front.model)),
        Route("/metrics", front.guarded(front.scrape)),
        Route("/health", front.health),
        *(Route(path, _page(*file)) for path, file in PAGE_FILES.items()),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: _missing, 405: _missing})
    if hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return SlowClients(app, limits.client_seconds)


def _page(name: str, kind: str) -> Handler:
    async def page(request: Request) -> Response:
        return FileResponse(PAGE / name, media_type=kind, headers=SECURITY)

    return page


async def _missing(request: Request, error: Any) -> Response:
    message = f"{request.method} {request.url.path}: there is no such thing here"
    return JSONResponse(ApiError(error.status_code, message).body(), error.status_code)


class _Front:
    """The routes."""

    def __init__(self, house: ModelManager, limits: Limits, metrics: Metrics, keys: Sequence[str]) -> None:
        self.house, self.limits, self.metrics, self.keys = house, limits, metrics, keys
        self.admission = Admission(limits)

    def guarded(self, handler: Handler) -> Handler:
        """`handler` behind the key, with errors as answers and all of it counted."""

        async def guard(request: Request) -> Response:
            began = time.monotonic()
            try:
                check_key(self.keys, request.headers.get("authorization"))
                response: Response = await handler(request)
            except ApiError as error:
                retry = {"Retry-After": str(error.retry)} if error.retry else {}
                response = JSONResponse(error.body(), error.status, headers=retry)
            except ClientDisconnect:
                response = Response(status_code=499)
            except Exception:
                log.exception("%s", request.url.path)
                bug = ApiError(500, "an error of the server; its log tells more", code="internal_error")
                response = JSONResponse(bug.body(), 500)
            route = request.scope["route"].path
            self.metrics.requests.labels(route, response.status_code).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - began)
            return response

        return guard

    async def health(self, request: Request) -> Response:
        """Whether requests can be served, and what is amiss."""
        served = self.house.served
        if served is None or served.broken or not await served.engine.healthy():
            return JSONResponse({"status": "starting", "trouble": self.house.trouble}, 503)
        return JSONResponse(
            {
                "status": "ok",
                "model": served.version.name,
                "version": served.version.number,
                "engine": served.engine.spec.kind,
                "trouble": self.house.trouble,
            }
        )

    async def scrape(self, request: Request) -> Response:
        """Prometheus metrics."""
        self.metrics.running.set(self.admission.running)
        self.metrics.waiting.set(self.admission.waiting)
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    def _served(self) -> Served:
        if self.house.served is None:
            raise ApiError(503, "no model is loaded yet", code="starting", retry=2)
        return self.house.served

    async def models(self, request: Request) -> Response:
        """The one model, by its name and by the version it is now."""
        return JSONResponse({"object": "list", "data": _cards(self._served())})

    async def model(self, request: Request) -> Response:
        """One entry of the list."""
        served = self._served()
        name = request.path_params["name"]
        self._check_name(name, served)
        return JSONResponse(_cards(served)[0] | {"id": name})

    def _check_name(self, name: str, served: Served) -> None:
        """A request names the served model, with or without alias or version; names are never paths."""
        model = served.version.name
        alias, version = name.removeprefix(f"{model}@"), name.removeprefix(f"{model}/")
        if name == model or (alias != name and alias.isidentifier()) or version == served.version.number:
            return
        raise ApiError(
            404,
            f"{name[:100]!r} is not served here; {served.version.label} is, under the name {model}",
            code="model_not_found",
            param="model",
        )

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        return await self._answer(request, ChatBody)

    async def completions(self, request: Request) -> Response:
        """``POST /v1/completions``."""
        return await self._answer(request, CompletionBody)

    async def _answer(self, request: Request, kind: type[ChatBody] | type[CompletionBody]) -> Response:
        arrived = asyncio.get_running_loop().time()
        body = parse(kind, await self._json(request))
        self._check_name(body.model, self._served())
        deadline = arrived + self.limits.seconds
        held = contextlib.AsyncExitStack()
        try:
            async with asyncio.timeout_at(deadline):
                await held.enter_async_context(self.admission.turn())
                served = await held.enter_async_context(self.house.engine(deadline))
                asked = await asyncio.to_thread(engine_request, body, served.chat, served.context, self.limits)
            answer = Answer(served, body, asked, self.metrics, arrived, deadline)
            if not body.stream:
                return JSONResponse(await self._unless_gone(request, answer.whole()), headers=_headers(served))
            pieces = answer.pieces()
            first = await anext(pieces, None)  # an engine that fails at once is still an honest status
            stream = self._streamed(answer.events(pieces, first), held.pop_all())
            return StreamingResponse(
                stream, media_type="text/event-stream", headers=_headers(served) | {"Cache-Control": "no-cache"}
            )
        except TimeoutError:
            raise ApiError(503, "no turn came within the time of a request", code="overloaded", retry=5) from None
        finally:
            await held.aclose()

    async def _streamed(self, events: AsyncIterator[str], held: contextlib.AsyncExitStack) -> AsyncIterator[str]:
        async with held:
            try:
                async for event in events:
                    yield event
            finally:
                await events.aclose()  # type: ignore[attr-defined]

    async def _unless_gone(self, request: Request, work: Any) -> Any:
        """The result of `work`, which is stopped when the client leaves."""
        task = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientDisconnect
            return task.result()
        finally:
            for each in (task, leaving):
                each.cancel()
            await asyncio.gather(task, leaving, return_exceptions=True)

    async def _json(self, request: Request) -> Any:
        """The body, in bounds."""
        most = self.limits.request_bytes
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise ApiError(415, "send Content-Type: application/json")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise ApiError(413, f"the request has more than {most:,} bytes; shorten it", code="request_too_large")
        try:
            return await asyncio.to_thread(json.loads, body)
        except (ValueError, RecursionError) as error:
            raise ApiError(400, f"the body is no JSON: {str(error)[:200]}", code="invalid_json") from None


def _cards(served: Served) -> list[dict[str, Any]]:
    shared = {
        "object": "model",
        "created": 0,
        "owned_by": "deepmill",
        "version": served.version.number,
        "context": served.context,
    }
    return [{"id": name, **shared} for name in dict.fromkeys((served.version.name, served.version.label))]


def _headers(served: Served) -> dict[str, str]:
    return {"X-Deepmill-Model": served.version.label}
