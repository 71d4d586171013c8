"""A real S3 server for tests: SeaweedFS from its wheel, on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

KEY, SECRET = "deepmill-test", "deepmill-test-secret"


def weed() -> str | None:
    """The server's program, where it is installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Free ports whose number plus 10,000 (gRPC of the same service) is free as well."""
    found: list[int] = []
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # which asks at the same time
    candidate = 20_000 + (time.time_ns() // 1000) % 3_000 + 3_000 * (worker % 4)
    while len(found) < count:
        candidate += 1
        with contextlib.ExitStack() as stack:
            try:
                for port in (candidate, candidate + 10_000):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(candidate)
    return found


class S3Server:
    """A server that can be killed and started again with what it held."""

    def __init__(self, folder: Path) -> None:
        program = weed()
        assert program is not None
        config = folder / "s3.json"
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        credentials = [{"accessKey": KEY, "secretKey": SECRET}]
        config.write_text(
            json.dumps({"identities": [{"name": "test", "credentials": credentials, "actions": actions}]})
        )
        self._base = [
            program,
            "server",
            f"-dir={folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
        ]
        self._base += [f"-s3.config={config}", "-master.volumeSizeLimitMB=64", "-volume.max=200"]
        self._base += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # else at fixed ports, where a second server ends
        (folder / "data").mkdir(exist_ok=True)
        self._folder, self._started = folder, False
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._choose_ports()

    def _choose_ports(self) -> None:
        master, volume, filer, s3 = free_ports(4)
        ports = [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"]
        self._command = self._base + ports
        self.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{s3}"

    def start(self) -> None:
        """On the same ports as before; the first time on others when somebody took one of them in between."""
        for attempt in range(3):
            with (self._folder / "weed.log").open("ab") as log:
                self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=subprocess.STDOUT)
            try:
                _wait_until_it_takes_a_bucket(self.environment, self._process)
            except AssertionError:
                if self._started or attempt == 2:
                    raise
                self._choose_ports()
            else:
                self._started = True
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Serve S3 from `folder`; yields the environment that reaches it."""
    import s3fs

    server = S3Server(folder)
    server.start()
    s3fs.S3FileSystem.clear_instance_cache()  # it keys by arguments, not by the endpoint of an earlier module's server
    try:
        yield server.environment
    finally:
        server.kill()
        s3fs.S3FileSystem.clear_instance_cache()


def _wait_until_it_takes_a_bucket(environment: dict[str, str], process: subprocess.Popen[bytes]) -> None:
    import s3fs

    deadline = time.monotonic() + 60
    while True:
        filesystem = s3fs.S3FileSystem(
            key=KEY, secret=SECRET, endpoint_url=environment["AWS_ENDPOINT_URL"], skip_instance_cache=True
        )
        try:
            with contextlib.suppress(FileExistsError):
                filesystem.mkdir("test")
            filesystem.pipe_file("test/probe", b"there")
            assert filesystem.cat_file("test/probe") == b"there"
            return
        except Exception:
            assert process.poll() is None, "the server ended"
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
