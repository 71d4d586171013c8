"""Who has the login gets in, by a program or a browser; nobody else does, and no page elsewhere uses their cookie."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from infra import credentials
from infra.credentials import Credential, make_login, read_login
from infra.errors import UserError
from infra.http_guard import LOOPBACK_NAMES
from infra.login_guard import guarded
from infra.private_files import read_private, write_private

OWN = "http://127.0.0.1:4200"
LOGIN = Credential("team", "not-a-secret-in-a-test")
OTHER = Credential("team", "another-one-of-a-test")


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.url.path}?{request.url.query} {request.headers.get('authorization')}")


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


APP = Starlette(routes=[WebSocketRoute("/talk", talk), Route("/{path:path}", answer, methods=["GET", "POST"])])


def client(*, delegates: bool = False) -> TestClient:
    app = guarded(APP, LOGIN, LOOPBACK_NAMES, is_open=lambda scope: scope["path"] == "/health", delegates=delegates)
    return TestClient(app, base_url=OWN, follow_redirects=False)


def test_programs() -> None:
    asked = client()
    assert asked.get("/health").status_code == 200
    assert asked.get("/x").status_code == 401
    assert asked.get("/x").headers["www-authenticate"].startswith("Basic")
    assert asked.get("/x", headers={"Authorization": LOGIN.basic}).status_code == 200
    refused = (
        OTHER.basic,
        "Basic",
        "Basic !",
        "Bearer x",
        LOGIN.basic.replace("Basic", "Bearer"),
        LOGIN.basic + "x",
        "",
    )
    for header in refused:
        assert asked.get("/x", headers={"Authorization": header}).status_code == 401, header


def test_a_link_logs_a_browser_in_and_leaves_no_token_behind() -> None:
    asked = client()
    answered = asked.get(f"/runs/a%20b?x=1&token={LOGIN.token}&y=2")
    assert (answered.status_code, answered.headers["location"]) == (303, "/runs/a%20b?x=1&y=2")
    cookie = answered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert LOGIN.password not in cookie
    assert LOGIN.token not in cookie
    assert asked.get("/x").text == f"/x? {LOGIN.basic}"  # the application sees the login itself


@pytest.mark.parametrize("path", ["//foreign.example/x", "/\\foreign.example", "///foreign.example"])
def test_a_link_leads_nowhere_else(path: str) -> None:
    answered = client().get(f"{OWN}{path}", params={"token": LOGIN.token})
    assert answered.status_code == 303
    assert answered.headers["location"].startswith("/")
    assert not answered.headers["location"].startswith(("//", "/\\"))


@pytest.mark.parametrize("token", ["", "guessed", OTHER.token, LOGIN.password, LOGIN.token[:-1]])
def test_a_wrong_token(token: str) -> None:
    answered = client().get("/", params={"token": token})
    assert answered.status_code == 401
    assert "set-cookie" not in answered.headers


def test_a_cookie_that_is_not_ours_or_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ends, _, signature = LOGIN.session().partition(".")
    for session in (
        OTHER.session(),
        f"{int(ends) + 9}.{signature}",
        ends,
        f".{signature}",
        "",
        f"{'9' * 9}.{'0' * 64}",
    ):
        assert client().get("/x", headers={"Cookie": f"{LOGIN.cookie}={session}"}).status_code == 401, session
    kept = LOGIN.session()
    assert client().get("/x", headers={"Cookie": f'odd"=; a=b; {LOGIN.cookie}={kept}'}).status_code == 200
    monkeypatch.setattr(credentials, "SESSION_SECONDS", -1)
    assert client().get("/x", headers={"Cookie": f"{LOGIN.cookie}={LOGIN.session()}"}).status_code == 401


def test_a_cookie_changes_nothing_unless_the_page_is_known() -> None:
    headers = {"Cookie": f"{LOGIN.cookie}={LOGIN.session()}", "Content-Type": "application/json"}
    assert client().post("/x", headers=headers).status_code == 403
    assert client().post("/x", headers=headers | {"Origin": "http://127.0.0.1:9"}).status_code == 403
    assert client().post("/x", headers=headers | {"Origin": OWN}).status_code == 200
    assert client().post("/x", headers=headers | {"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_other_users_are_the_application_s() -> None:
    assert client(delegates=True).get("/x", headers={"Authorization": OTHER.basic}).text == f"/x? {OTHER.basic}"
    assert client(delegates=True).get("/x").status_code == 401


def test_web_sockets() -> None:
    with pytest.raises(WebSocketDisconnect), client().websocket_connect("/talk"):
        pass
    host = {"Host": "127.0.0.1:4200"}
    for shown in ({"Authorization": LOGIN.basic}, {"Cookie": f"{LOGIN.cookie}={LOGIN.session()}"}):
        with client().websocket_connect("/talk", headers=host | shown) as socket:
            assert socket.receive_text() == "hello"


def test_a_login_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    assert read_login(tmp_path) is None
    made = make_login(tmp_path)
    assert make_login(tmp_path) == made == read_login(tmp_path)
    assert len(made.password) > 40
    assert made.password not in repr(made)
    path = tmp_path / "login"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)  # somebody may have read it
    with pytest.raises(UserError, match="others may read it"):
        read_login(tmp_path)
    assert make_login(tmp_path) != made
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("nonsense")
    with pytest.raises(UserError, match="not a login"):
        read_login(tmp_path)


def test_a_private_file_is_not_read_through_a_link(tmp_path: Path) -> None:
    write_private(tmp_path / "real", "text")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UserError, match="must be a file of your own"):
        read_private(tmp_path / "link")
    write_private(tmp_path / "link", "new")  # the link is replaced, not followed
    assert (tmp_path / "real").read_text() == "text"
