"""A flow that is run by a command and watched on its terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from flows.commands.app import console
from infra.imports import importing

__all__ = ["watched_flow"]


@contextlib.contextmanager
def watched_flow(load: Callable[[], Any]) -> Iterator[Any]:
    """The flow that `load` imports, on the Prefect server that its settings name or one for this run alone.

    It is loaded while that server starts.
    """
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    from flows.run.display import TerminalDisplay
    from flows.run.prefect_server import PrefectServer
    from flows.run.session import watched_by

    with PrefectServer() as server, TerminalDisplay(console) as display:
        with importing():
            flow = load()
        server.wait()
        with watched_by(display):
            yield flow
