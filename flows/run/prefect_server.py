"""A Prefect server of its own for a run where the user has none: on loopback, without UI, gone with the run.

Prefect can start one by itself, but that one outlives a flow that is killed (kill -9). This one stands below the same
supervisor as the stages do, and comes up while the flows are still being imported.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from types import TracebackType
from typing import IO

from infra.errors import UserError

__all__ = ["PrefectServer"]

START_SECONDS = 180.0
POLL_SECONDS = 0.05
DRAIN_SECONDS = 5.0


class PrefectServer:
    """Use as a context manager around the run; does nothing where Prefect's settings name a server."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._url = ""

    def __enter__(self) -> PrefectServer:
        from prefect.settings import get_current_settings

        if get_current_settings().api.url:
            return self
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}/api"
        self._log = tempfile.TemporaryFile()  # read when the start fails
        command = [sys.executable, "-m", "infra.supervisor", str(os.getpid())]
        command += [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"]
        variables = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        self._process = subprocess.Popen(
            command,
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the flow, which still has to tell the server how it ended
        )
        return self

    def wait(self) -> None:
        """Until it answers; then Prefect talks to it, in every thread.

        Raises:
            UserError: it does not come up.
        """
        if self._process is None or self._log is None:
            return
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise UserError(
                    f"the Prefect server of this run has not answered for {START_SECONDS:.0f} s; this machine may have "
                    "too much to do: run the same command again, or set PREFECT_API_URL to one that runs"
                )
            if self._process.poll() is not None:
                self._log.seek(0)
                told = self._log.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
                raise UserError(
                    f"the Prefect server of this run did not start ({told[-1]}); set PREFECT_API_URL to one that runs"
                )
            time.sleep(POLL_SECONDS)
        os.environ["PREFECT_API_URL"] = self._url  # for every thread: Prefect's own have no context of ours
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()

    def _drain(self) -> None:
        """Let Prefect send the logs and events it has queued, as long as there is someone to take them."""
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        if self._answers():
            for worker in (APILogWorker, EventsWorker):
                worker.drain_all(timeout=DRAIN_SECONDS)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._drain()
            if os.environ.get("PREFECT_API_URL") == self._url:
                del os.environ["PREFECT_API_URL"]
            self._process.terminate()
            self._process.wait()
        if self._log is not None:
            self._log.close()
