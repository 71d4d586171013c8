"""The HTTP server: OpenAI's API, health, metrics and the chat page, in front of the served model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from flows.browser import CHAT_PAGE
from flows.serving.answers import not_served
from flows.serving.cors import PageGuard
from flows.serving.embeddings import embed
from flows.serving.errors import ApiError, fault
from flows.serving.limits import Admission, Limits, check_key, read_body
from flows.serving.metrics import CONTENT_TYPE, Metrics
from flows.serving.model_manager import ModelManager, Served
from flows.serving.openapi import openapi
from flows.serving.protocol import ChatBody, CompletionBody, EmbeddingsBody, parse, read_json
from flows.serving.reply import Reply
from flows.serving.responses import ResponsesBody, ResponsesReply
from flows.serving.shapes import Health, ModelCard, ModelList
from flows.serving.trace import TraceBody, trace

__all__ = ["build"]

T = TypeVar("T")

log = logging.getLogger("deepmill.serve")
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
Handler = Callable[[Request], Any]


def build(
    manager: ModelManager,
    limits: Limits,
    metrics: Metrics,
    *,
    keys: Sequence[str] = (),
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
) -> Any:
    """The ASGI application.

    Args:
        keys: API keys, one of which a request must bear; none for open access.
        hosts: names that a request may address the server by, and that its own pages have; any when empty.
        origins: of pages elsewhere that may ask the API, as ``https://example.org``.
    """
    front = _Front(manager, limits, metrics, keys)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await manager.close()

    routes = [
        Route("/v1/chat/completions", front.guarded(front.chat), methods=["POST"]),
        Route("/v1/completions", front.guarded(front.completions), methods=["POST"]),
        Route("/v1/responses", front.guarded(front.responses), methods=["POST"]),
        Route("/v1/embeddings", front.guarded(front.embeddings), methods=["POST"]),
        Route("/v1/trace", front.guarded(front.trace), methods=["POST"]),
        Route("/v1/models", front.guarded(front.models)),
        Route("/v1/models/{name:path}", front.guarded(front.model)),
        Route("/metrics", front.guarded(front.scrape)),
        Route("/health", front.health),
        Route("/openapi.json", _interface),
        Route("/", _page(CHAT_PAGE / "chat.html")),
        *(Route(f"/chat/{file.name}", _page(file)) for file in sorted(CHAT_PAGE.iterdir()) if file.suffix in KINDS),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: _missing, 405: _missing})
    if hosts:
        app.add_middleware(PageGuard, hosts=hosts, origins=origins)
    return app


def _page(file: Path) -> Handler:
    async def page(request: Request) -> Response:
        return FileResponse(file, media_type=KINDS[file.suffix], headers=SECURITY)

    return page


async def _interface(request: Request) -> Response:
    return _Json(openapi())


async def _missing(request: Request, error: Any) -> Response:
    message = f"{request.method} {request.url.path}: there is no such thing here"
    return _Json(ApiError(error.status_code, message).body(), error.status_code)


def _refusal(error: ApiError) -> Response:
    headers = {"Retry-After": str(error.retry)} if error.retry else {}
    return _Json(error.body(), error.status, headers=headers)


class _Front:
    """The routes."""

    def __init__(self, manager: ModelManager, limits: Limits, metrics: Metrics, keys: Sequence[str]) -> None:
        self.manager, self.limits, self.metrics, self.keys = manager, limits, metrics, keys
        self.admission = Admission(limits)

    def guarded(self, handler: Handler) -> Handler:
        """`handler` behind the key, with errors as answers and all of it counted."""

        async def guard(request: Request) -> Response:
            began = time.monotonic()
            number = request.state.number = f"req-{uuid.uuid4().hex}"
            try:
                check_key(self.keys, request.headers.get("authorization"))
                response: Response = await handler(request)
            except ApiError as error:
                response = _refusal(error)
            except ClientDisconnect:
                response = Response(status_code=499)
            except Exception:
                log.exception("request %s: %s", number, request.url.path)
                response = _refusal(fault(number))
            response.headers["X-Request-Id"] = number
            route = request.scope["route"].path
            self.metrics.requests.labels(route, response.status_code).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - began)
            return response

        return guard

    async def health(self, request: Request) -> Response:
        """Whether requests can be served, and what is amiss."""
        served = self.manager.served
        found: Health = {
            "status": "starting",
            "trouble": self.manager.trouble,
            "requests": {
                "running": self.admission.running,
                "slots": self.limits.concurrency,
                "waiting": self.admission.waiting,
                "line": self.limits.waiting,
            },
        }
        if served is None or served.broken or not await served.engine.healthy():
            return _Json(found, 503)
        found["status"] = "busy" if self.admission.is_full else "ok"
        found["model"], found["version"] = served.version.name, served.version.number
        found["engine"] = served.engine.spec.kind
        return _Json(found)

    async def scrape(self, request: Request) -> Response:
        """Prometheus metrics."""
        self.metrics.running.set(self.admission.running)
        self.metrics.waiting.set(self.admission.waiting)
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    def _served(self) -> Served:
        if self.manager.served is None:
            raise ApiError(503, "no model is loaded yet", code="starting", retry=2)
        return self.manager.served

    async def models(self, request: Request) -> Response:
        """The one model, by its name and by the version it is now."""
        found: ModelList = {"object": "list", "data": _cards(self._served())}
        return _Json(found)

    async def model(self, request: Request) -> Response:
        """One entry of the list."""
        served = self._served()
        name = request.path_params["name"]
        self._check_name(name, served)
        return _Json(_cards(served)[0] | {"id": name})

    def _check_name(self, name: str, served: Served) -> None:
        """ApiError 404 unless a request may name the served model so."""
        if not served.answers_to(name):
            raise not_served(name, served)

    async def chat(self, request: Request) -> Response:
        """``POST /v1/chat/completions``."""
        return await self._answer(request, ChatBody, Reply)

    async def completions(self, request: Request) -> Response:
        """``POST /v1/completions``."""
        return await self._answer(request, CompletionBody, Reply)

    async def responses(self, request: Request) -> Response:
        """``POST /v1/responses``."""
        return await self._answer(request, ResponsesBody, ResponsesReply)

    async def embeddings(self, request: Request) -> Response:
        """``POST /v1/embeddings``."""
        deadline = asyncio.get_running_loop().time() + self.limits.seconds
        body: EmbeddingsBody = parse(EmbeddingsBody, await self._json(request, deadline))
        self._check_name(body.model, self._served())
        return _Json(await _unless_gone(request, embed(body, self.admission, self.manager, deadline)))

    async def trace(self, request: Request) -> Response:
        """``POST /v1/trace``."""
        deadline = asyncio.get_running_loop().time() + self.limits.seconds
        body: TraceBody = parse(TraceBody, await self._json(request, deadline))
        served = self._served()
        self._check_name(body.model, served)
        return _Json(await _unless_gone(request, trace(body, self.admission, served, deadline)))

    async def _answer(self, request: Request, kind: type[Any], reply_of: Callable[..., Reply]) -> Response:
        """The reply to a request whose body is of a kind."""
        arrived = asyncio.get_running_loop().time()
        deadline = arrived + self.limits.seconds
        body = parse(kind, await self._json(request, deadline))
        self._check_name(body.model, self._served())
        reply = reply_of(request.state.number, body, self.metrics, arrived, deadline)
        work = asyncio.create_task(reply.compute(self.admission, self.manager, self.limits))
        is_streamed = False
        try:
            if not body.stream:
                told = await _unless_gone(request, reply.whole())
                return _Json(told, headers=_headers(reply))
            pieces = reply.pieces()
            await _unless_gone(request, anext(pieces, None))  # an engine that fails at once is still an honest status
            stream = _EventStream(reply.events(pieces), work, _headers(reply))
            is_streamed = True
            return stream
        finally:
            if not is_streamed:
                await _end(work)

    async def _json(self, request: Request, deadline: float) -> Any:
        """The body, in bounds."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "send Content-Type: application/json")
        return await asyncio.to_thread(read_json, await read_body(request, self.limits, deadline))


class _Json(JSONResponse):
    """JSON in ASCII: what a model writes need not be text that UTF-8 can hold."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


class _EventStream(Response):
    """Sends events while the work on them goes on, and ends that work when the client leaves.

    The work holds the turn, not the response: one that is never sent, or never taken, holds nothing.
    """

    def __init__(self, events: AsyncIterator[str], work: asyncio.Task[None], headers: dict[str, str]) -> None:
        super().__init__(headers=headers | {"Cache-Control": "no-cache"}, media_type="text/event-stream")
        del self.headers["content-length"]
        self._events, self._work = events, work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.create_task(_gone(receive))
        sending = asyncio.create_task(self._send(send))
        try:
            await asyncio.wait({leaving, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (leaving, sending, self._work):
                await _end(task)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for event in self._events:
            await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
            await asyncio.sleep(0)  # neither events that wait nor a send suspend: a client's leaving would go unseen
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    """Returns when the client, whose request has arrived, is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is stopped when the client leaves."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        await _end(task)
        await _end(leaving)


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel `task` and wait for its end; what it raises has been seen, or is of no use any more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def _cards(served: Served) -> list[ModelCard]:
    version = served.version
    return [
        {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "deepmill",
            "version": version.number,
            "context": served.context,
            "sources": served.sources is not None,
        }
        for name in dict.fromkeys((version.name, version.label))
    ]


def _headers(reply: Reply) -> dict[str, str]:
    return {"X-Deepmill-Model": quote(reply.label, safe="/ ()+@")}  # a header holds no other letters
