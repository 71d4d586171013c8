"""What the tests of this layer share: a Prefect server per session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flows.prepared import prefect_server, prepare_prefect
from tests.flows.tiny import SERVER


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the API of a Prefect server that all tests may use; they look at what is theirs."""
    home = tmp_path_factory.mktemp("prefect-server")
    prepare_prefect(home)
    with prefect_server(home) as url:
        yield url


@pytest.fixture
def on_prefect(prefect: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the test runs by `tests.flows.tiny` talks to `prefect`, where else each run starts a server of its own."""
    monkeypatch.setenv(SERVER, prefect)
    return prefect
