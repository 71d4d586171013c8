"""Serves Python's own documentation of the standard library over HTTP on loopback: ``python -m pipeline.sample.site``.

The pages are pydoc's. What depends on the machine (installation paths, memory addresses) is taken out, so that the
site depends on the Python version alone. Prints its port, then serves until its input ends. As on a real site, some
addresses redirect, some pages are gone, and some are there under two names.
"""

from __future__ import annotations

import os
import pydoc
import re
import sys
import sysconfig
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["PACKAGES", "module_names"]

PACKAGES = frozenset(
    {
        "asyncio",
        "collections",
        "concurrent",
        "email",
        "html",
        "http",
        "importlib",
        "json",
        "logging",
        "urllib",
        "wsgiref",
    }
)
"""Packages whose modules have pages too."""
_LEFT_OUT = """
    antigravity crypt curses dbm distutils ensurepip getpass grp idlelib lib2to3 msilib msvcrt multiprocessing nis nt
    ntpath opcode os ossaudiodev platform posix pwd pydoc pydoc_data readline resource rlcompleter site sitecustomize
    spwd sqlite3 ssl sys sysconfig syslog tempfile test this tkinter tracemalloc turtle turtledemo usercustomize venv
    winreg winsound zoneinfo
"""
OWN = frozenset(_LEFT_OUT.split())
"""Left out: not in every build, of one platform, or describing the machine rather than the library."""
ADDRESS = re.compile(r"\b(at|handle)(\s|&nbsp;)(0x)?[0-9a-fA-F]{6,}")
"""Of an object in memory, as `repr` writes it; pydoc makes some spaces unbreakable."""
LINK_TO_FILE = re.compile(r'<a href="file:[^"]*">([^<]*)</a>')


def module_names() -> list[str]:
    """The modules that have a page, as the index lists them."""
    return sorted(name for name in sys.stdlib_module_names if not name.startswith("_") and name not in OWN)


def page(name: str) -> str | None:
    """The page of a module, or None where there is none."""
    root, _, below = name.partition(".")
    known = root in module_names() and (not below or root in PACKAGES) and "__" not in name
    if not known or "." in below or below.startswith("_"):
        return None
    try:
        found = pydoc.resolve(name)
    except (ImportError, pydoc.ErrorDuringImport):  # of another platform
        return None
    assert found is not None
    module = found[0]
    if not hasattr(module, "__file__") and name not in sys.builtin_module_names:
        return None
    body = pydoc.html.page(pydoc.describe(module), pydoc.html.document(module, name))
    body = LINK_TO_FILE.sub(r"\1", body)
    # Not the bare prefix: where that is /usr, it would change what pages say of /usr/local.
    for folder in (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")):
        body = body.replace(folder, "python")
    return ADDRESS.sub(r"\1\g<2>0x0", body)


def index() -> str:
    """The page that links to every module."""
    links = "\n".join(f'<li><a href="{name}.html">{name}</a></li>' for name in module_names())
    return f"<!DOCTYPE html>\n<html><head><title>Modules</title></head><body><ul>\n{links}\n</ul></body></html>\n"


class Handler(BaseHTTPRequestHandler):
    """Answers without date and server headers, which would differ from day to day."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        if path in ("", "index.html"):
            self._answer(HTTPStatus.OK, index())
        elif path.endswith(".html") and (body := page(path.removesuffix(".html"))) is not None:
            self._answer(HTTPStatus.OK, body)
        elif path in module_names():
            self._answer(HTTPStatus.MOVED_PERMANENTLY, "moved", location=f"/{path}.html")
        else:
            self._answer(HTTPStatus.NOT_FOUND, f"<html><body><h1>Not found</h1><p>{path}</p></body></html>")

    def _answer(self, status: HTTPStatus, body: str, location: str = "") -> None:
        encoded = body.encode("utf-8", "replace")
        self.send_response_only(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(encoded)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def main() -> None:
    """Serve on a free port until standard input ends."""
    os.environ.clear()  # a few pages show it
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
