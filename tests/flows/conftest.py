"""What the tests of this layer share: a Prefect server per session."""

from __future__ import annotations

import pytest

from tests.flows.prepared import shared_prefect
from tests.flows.tiny import SERVER


@pytest.fixture(scope="session")
def prefect() -> str:
    """Address of the API of a Prefect server that all tests may use; they look at what is theirs."""
    return shared_prefect()


@pytest.fixture
def on_prefect(prefect: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the test runs by `tests.flows.tiny` talks to `prefect`, where else each run starts a server of its own."""
    monkeypatch.setenv(SERVER, prefect)
    return prefect
