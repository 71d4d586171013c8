"""A real PostgreSQL server for tests, on loopback, with a password; it can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from infra.processes import free_ports

PASSWORD = "postgres-test-password"


def postgres_bin() -> Path | None:
    """Folder of the server's programs, where they are installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    program = shutil.which("postgres")
    return Path(program).parent if program else None


class Postgres:
    """A server with a data folder of its own."""

    def __init__(self, folder: Path) -> None:
        programs = postgres_bin()
        assert programs is not None
        self._programs, self._data = programs, folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._user: int | None = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self._user = pwd.getpwnam("postgres").pw_uid
            os.chown(folder, self._user, -1)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if self._user is not None:
            os.chown(secret, self._user, -1)
        (self.port,) = free_ports()
        command = [str(programs / "initdb"), "-D", str(self._data), "-U", "mill", "-A", "scram-sha-256", "-E", "UTF8"]
        subprocess.run([*command, f"--pwfile={secret}"], user=self._user, cwd=folder, check=True, capture_output=True)
        self.address = f"postgresql://mill:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port)]
        command += ["-k", str(self._data), "-c", "max_connections=60"]
        with (self._data.parent / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(command, user=self._user, cwd=self._data, stdout=log, stderr=log)
        import psycopg

        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(f"{self.address}/postgres", connect_timeout=5).close()
                return
            assert time.monotonic() < deadline
            assert self._process.poll() is None, (self._data.parent / "postgres.log").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """As a power cut would: no farewell to anybody."""
        if self._process is not None and self._process.poll() is None:
            import psutil

            family = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
            psutil.wait_procs(family, timeout=10)


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A server in a folder of its own, which is gone with it.

    Not below pytest's: another user could not reach it there, for every session of pytest closes its folder again.
    """
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = Postgres(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
