"""Pages elsewhere: refused by default, let in by name, to the API alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp

from flows.serving.app import build
from flows.serving.cors import read_origins
from flows.serving.limits import Limits
from flows.serving.metrics import Metrics
from flows.serving.model_manager import ModelManager, Place, Source
from infra.errors import UserError
from model.serving.spec import EngineKind

FRIEND, STRANGER = "https://chat.example.org", "https://evil.example"


@pytest.fixture
def app(tmp_path: Path) -> ASGIApp:
    """The application before any model is loaded."""
    metrics = Metrics()
    manager = ModelManager(
        Source(lambda: None, lambda number: None), Place(EngineKind.OWN, 16, 1, 1, tmp_path), metrics
    )  # type: ignore[arg-type,return-value]
    return build(manager, Limits(), metrics, keys=("secret",), hosts=("localhost",), origins=(FRIEND,))  # type: ignore[no-any-return]


def ask(app: ASGIApp, method: str, path: str, **headers: str) -> httpx.Response:
    async def main() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, headers=named)

    return asyncio.run(main())


def test_a_named_page_may_ask_and_read(app: ASGIApp) -> None:
    before = ask(
        app,
        "OPTIONS",
        "/v1/chat/completions",
        origin=FRIEND,
        access_control_request_method="POST",
        access_control_request_headers="authorization,content-type",
    )
    assert (before.status_code, before.headers["access-control-allow-origin"]) == (204, FRIEND)
    assert before.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "access-control-allow-credentials" not in before.headers
    told = ask(app, "GET", "/v1/models", origin=FRIEND, sec_fetch_site="cross-site")
    assert (told.status_code, told.headers["access-control-allow-origin"]) == (401, FRIEND)  # the key is still wanted
    assert told.headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/models", {"origin": STRANGER}),
        ("/v1/models", {"origin": "null"}),
        ("/v1/models", {"origin": f"{FRIEND}.evil.example"}),
        ("/v1/models", {"origin": FRIEND, "host": "rebound.example"}),
        ("/metrics", {"origin": FRIEND}),
        ("/", {"origin": FRIEND}),
    ],
    ids=str,
)
def test_all_others_stay_out(app: ASGIApp, path: str, headers: dict[str, str]) -> None:
    told = ask(app, "GET", path, **headers)
    assert told.status_code == 403
    assert "access-control-allow-origin" not in told.headers or headers["origin"] == FRIEND


def test_a_preflight_of_a_stranger_is_refused(app: ASGIApp) -> None:
    told = ask(app, "OPTIONS", "/v1/models", origin=STRANGER, access_control_request_method="GET")
    assert told.status_code == 403


def test_origins_are_named_one_by_one() -> None:
    assert read_origins(f" {FRIEND}/ , http://localhost:3000") == [FRIEND, "http://localhost:3000"]
    for wrong in ("*", "example.org", "https://example.org/page", "file:///x"):
        with pytest.raises(UserError, match="is no origin"):
            read_origins(wrong)
