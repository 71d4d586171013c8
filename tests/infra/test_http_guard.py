"""What a page elsewhere, or a rebound name, sends to a server of ours is turned away; its own page is answered."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from infra.http_guard import LOOPBACK_NAMES, OriginGuard, host_name

OWN = "http://127.0.0.1:4200"
JSON = {"Content-Type": "application/json"}


async def answer(request: Request) -> PlainTextResponse:
    text = f"{request.method} {(await request.body()).decode()}"
    return PlainTextResponse(text, headers={"Access-Control-Allow-Origin": "*"})  # as Prefect answers


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


APP = Starlette(
    routes=[
        Route("/", answer, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        WebSocketRoute("/talk", talk),
    ]
)


def client(*hosts: str, base: str = OWN) -> TestClient:
    return TestClient(OriginGuard(APP, hosts or LOOPBACK_NAMES), base_url=base)


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "localhost", "LOCALHOST:1", "[::1]:4200", "[::1]"])
def test_its_own_names(host: str) -> None:
    assert client().get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example",
        "rebound.example:4200",
        "127.0.0.1.rebound.example",
        "localhost.rebound.example:4200",
        "10.0.0.7",
        "127.0.0.1@rebound.example",
        "rebound.example#127.0.0.1",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_foreign_host(host: str, method: str) -> None:
    answered = client().request(method, "/", headers={"Host": host})
    assert answered.status_code == 403
    assert "access-control-allow-origin" not in answered.headers


def test_two_hosts_are_none() -> None:
    headers = [("Host", "127.0.0.1"), ("Host", "rebound.example")]
    assert client().get("/", headers=headers).status_code == 403  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "origin",
    [
        "http://foreign.example",
        "http://127.0.0.1:9999",
        "http://127.0.0.1",
        "http://localhost:4200",
        "http://127.0.0.1:4200.foreign.example",
        "null",
        "file://",
        "http://127.0.0.1:notaport",
        "http://[127.0.0.1:4200",
        "chrome-extension://abcdef",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_a_foreign_origin(origin: str, method: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"} | JSON
    answered = client().request(method, "/", headers=asked, content=b"{}" if method == "POST" else None)
    assert answered.status_code == 403
    assert "access-control-allow-origin" not in answered.headers


def test_its_own_page_and_programs() -> None:
    for headers in ({}, {"Origin": OWN}, {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        answered = client().post("/", headers=headers | JSON, content=b"{}")
        assert (answered.status_code, answered.text) == (200, "POST {}")
        assert answered.headers["x-frame-options"] == "SAMEORIGIN"
        assert "access-control-allow-origin" not in answered.headers


def test_behind_a_proxy_its_name_is_an_origin_of_ours() -> None:
    """Whether the proxy keeps `Host` or names the server by its address."""
    for host in ("mill.example", "127.0.0.1:4200"):
        headers = {"Host": host, "Origin": "https://mill.example"} | JSON
        assert client(*LOOPBACK_NAMES, "mill.example").post("/", headers=headers, content=b"{}").status_code == 200
        headers["Origin"] = "https://mill.example:8443"  # what else that machine serves is another origin
        assert client(*LOOPBACK_NAMES, "mill.example").post("/", headers=headers, content=b"{}").status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_may_be_followed_and_nothing_else(site: str) -> None:
    """`same-site` is another port of the same host: another local user's page, perhaps."""
    follow = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client().get("/", headers=follow).status_code == 200
    assert client().post("/", headers=follow | JSON, content=b"{}").status_code == 403
    for mode, destination in (("navigate", "iframe"), ("no-cors", "image"), ("no-cors", "script"), ("cors", "empty")):
        asked = follow | {"Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
        assert client().get("/", headers=asked).status_code == 403, asked


def test_a_body_without_a_type() -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client().request(method, "/", content=b'{"name": "x"}').status_code == 415
        assert client().request(method, "/").status_code == 200  # nothing is sent
    chunks = (part for part in (b"{", b"}"))
    assert client().post("/", content=chunks).status_code == 415


@pytest.mark.parametrize("headers", [{"Origin": "http://foreign.example"}, {"Host": "rebound.example"}])
def test_a_foreign_web_socket(headers: dict[str, str]) -> None:
    with pytest.raises(WebSocketDisconnect) as closed, client().websocket_connect("/talk", headers=headers):
        pass
    assert closed.value.code == 1008


def test_its_own_web_socket() -> None:
    with client().websocket_connect("/talk", headers={"Origin": OWN, "Host": "127.0.0.1:4200"}) as socket:
        assert socket.receive_text() == "hello"


def test_host_names() -> None:
    assert [host_name(host) for host in ("A.example:80", "a.example:", "[::1]:80", "[::1]", "::1")] == [
        "a.example",
        "a.example",
        "[::1]",
        "[::1]",
        "::1",
    ]
