"""A Prefect server of its own for a run where the user has none: on loopback, without UI, gone with the run.

Prefect can start one by itself, but that one outlives a flow that is killed (kill -9), and answers every page and every
user of the machine. This one stands below the same supervisor as the stages do, comes up while the flows are still
being imported, and wants a login that only this run has.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import IO

from infra.errors import UserError
from infra.processes import free_ports, is_foreign_listener
from infra.services import answers

__all__ = ["PREFECT_GUARDED", "PrefectServer"]

START_SECONDS = 180.0
POLL_SECONDS = 0.05
DRAIN_SECONDS = 5.0
PREFECT_GUARDED = {"PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true", "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true"}
"""What Prefect itself is told, server and clients. It names no origins, so that it answers none but its own."""


class PrefectServer:
    """Use as a context manager around the run; does nothing where Prefect's settings name a server."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._url = ""
        self._port = 0
        self._before: dict[str, str | None] = {}
        self._login = f"run:{secrets.token_urlsafe(32)}"

    def __enter__(self) -> PrefectServer:
        from prefect.settings import get_current_settings

        if get_current_settings().api.url:
            return self
        (self._port,) = free_ports()
        self._url = f"http://127.0.0.1:{self._port}/api"
        self._log = tempfile.TemporaryFile()  # read when the start fails
        command = [sys.executable, "-m", "infra.supervisor", str(os.getpid())]
        command += [sys.executable, "-m", "flows.run.prefect_app", str(self._port)]
        variables = PREFECT_GUARDED | {
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
            "PREFECT_SERVER_API_AUTH_STRING": self._login,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{self._port}",
        }
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
        while not answers(f"{self._url}/health"):
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
        if is_foreign_listener(self._port):
            raise UserError(
                "another user's program took the port of this run's Prefect server; run the same command again"
            )
        # for every thread: Prefect's own have no context of ours
        variables = PREFECT_GUARDED | {"PREFECT_API_URL": self._url, "PREFECT_API_AUTH_STRING": self._login}
        self._before = {name: os.environ.get(name) for name in variables}
        os.environ |= variables
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()

    def _drain(self) -> None:
        """Let Prefect send the logs and events it has queued, as long as there is someone to take them."""
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        if answers(f"{self._url}/health"):
            for worker in (APILogWorker, EventsWorker):
                worker.drain_all(timeout=DRAIN_SECONDS)

    def _restore(self) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._drain()
            self._restore()
            self._process.terminate()
            self._process.wait()
        if self._log is not None:
            self._log.close()
