"""Serves an exported folder on this machine, with the headers that threads want: for a look at it.

Whoever has an account on the machine may read it, but no page of another origin.
"""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from infra.errors import UserError
from infra.http_guard import HEADERS, LOOPBACK_NAMES, foreign

__all__ = ["folder_server"]

ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


class _Files(SimpleHTTPRequestHandler):
    """Files of one folder, to pages of its own and to who asks this machine by one of its names; no listings."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json",
    }

    def __init__(self, *args: Any, headers: dict[str, str], **options: Any) -> None:
        self._more = headers
        super().__init__(*args, **options)

    def send_head(self) -> Any:
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        if foreign({"type": "http", "method": self.command, "headers": headers}, LOOPBACK_NAMES):
            return self.send_error(403, explain="ask by the name localhost or 127.0.0.1, from no other page")
        return super().send_head()

    def list_directory(self, path: Any) -> Any:
        return self.send_error(404)

    def end_headers(self) -> None:
        for name, value in self._more.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def folder_server(folder: Path, port: int = 0, *, isolated: bool = True) -> ThreadingHTTPServer:
    """A server of `folder` on loopback, not yet started.

    Args:
        folder: of plain files.
        port: 0 takes a free one.
        isolated: send the headers under which browsers give a page threads; most hosts of plain files do not.

    Raises:
        UserError: the port is taken.
    """
    handler = partial(_Files, directory=str(folder), headers=HEADERS | (ISOLATED if isolated else {}))
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise UserError(f"127.0.0.1:{port}: cannot listen there ({error.strerror}); choose another --port") from None
