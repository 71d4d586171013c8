"""What the drills of `deepmill up` share: one start of all servers, as a team has them, and a browser."""

from __future__ import annotations

import base64
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from infra.services import answers
from tests.flows.chromium import CHROMIUM
from tests.flows.golden import golden
from tests.flows.operations.running import LOGIN, House, belonging_to, house
from tests.flows.tiny import STAGES, write_recipe
from tests.infra.postgres import Postgres, postgres, postgres_bin

LIES = "--host-resolver-rules=MAP foreign.example 127.0.0.1, MAP rebound.example 127.0.0.1"
LENT = [name for name in STAGES if name != "pretrain"]
"""Of the golden run: what the houses' runs find there, so that their stages are those that a test is about."""
ACTION_SECONDS = 240
"""What the browser waits for a page: the machine may have other work."""


@pytest.fixture(scope="package")
def database() -> Iterator[Postgres]:
    """PostgreSQL: on a busy machine Prefect's server on SQLite stops answering for a minute at a time."""
    if postgres_bin() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres() as server:
        yield server


@pytest.fixture(scope="package")
def up(tmp_path_factory: pytest.TempPathFactory, database: Postgres, s3: dict[str, str]) -> Iterator[House]:
    """Prefect, MLflow and the pages behind a login, on PostgreSQL and S3, with a worker for each of two pools."""
    root = tmp_path_factory.mktemp("up")
    write_recipe(root)
    golden().lend(root, LENT)
    settings = {
        "DEEPMILL_DATABASE": database.address,
        "DEEPMILL_ARTIFACTS": "s3://test/mlflow",
        "DEEPMILL_LOGIN": LOGIN,
        "DEEPMILL_POOLS": "default,gpu",
    }
    with house(root, **settings, **s3) as at:
        yield at
    assert not answers(f"{at.prefect}/api/health")
    assert not belonging_to(root)


@pytest.fixture(scope="package")
def alone() -> Iterator[House]:
    """The servers as somebody alone starts them: SQLite, and the login that `up` makes.

    Where every user of the machine can get to, unlike pytest's own folders: what keeps them out is the store's own.
    """
    with tempfile.TemporaryDirectory(prefix="alone-") as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "mill"
        root.mkdir(mode=0o755)
        write_recipe(root)
        golden().lend(root, LENT)
        with house(root) as at:
            yield at
        assert not belonging_to(root)


@pytest.fixture
def client(up: House, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Of MLflow, by somebody who has the login."""
    for name, value in zip(("USERNAME", "PASSWORD"), LOGIN.split(":"), strict=True):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    return MlflowClient(up.mlflow)


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Headless Chromium; without the software that stands in for a GPU, which would take a core for itself.

    It is told that two names are this machine, as a hostile name server would tell it.
    """
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", LIES])
        yield browser
        browser.close()


@pytest.fixture
def stranger(browser: Any) -> Iterator[Any]:
    """A tab that knows no login; it fails the test when a page asks for anything beyond this machine."""
    yield from _tab(browser, browser.new_context(viewport={"width": 1300, "height": 1000}))


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """The same tab of somebody who has logged in."""
    user, password = LOGIN.split(":")
    context = browser.new_context(
        viewport={"width": 1300, "height": 1000}, http_credentials={"username": user, "password": password}
    )
    known = base64.b64encode(LOGIN.encode()).decode()  # where Prefect's page of logins puts it
    context.add_init_script(f"localStorage.setItem('prefect-password', '{known}')")
    yield from _tab(browser, context)


def _tab(browser: Any, context: Any) -> Iterator[Any]:
    tab = context.new_page()
    tab.set_default_timeout(1000 * ACTION_SECONDS)
    outside: list[str] = []
    tab.on("request", lambda request: outside.append(request.url) if _outside(request.url) else None)
    yield tab
    context.close()
    assert not outside


def _outside(address: str) -> bool:
    return not re.match(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:|about:", address)
