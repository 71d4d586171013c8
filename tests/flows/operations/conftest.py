"""The database behind the servers of the drills."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.infra.postgres import Postgres, postgres, postgres_bin


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """PostgreSQL: on a busy machine Prefect's server on SQLite stops answering for a minute at a time."""
    if postgres_bin() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server
