"""A web server on loopback for tests, with or without ranges."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class WholeFiles(SimpleHTTPRequestHandler):
    """Knows no ranges, as Python's own."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Ranges(WholeFiles):
    """Sends the range that is asked for, as most servers do."""

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            return super().do_GET()
        content = path.read_bytes()
        begin, end = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        if begin >= len(content):
            self.send_error(416)
            return None
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end}/{len(content)}")
        self.send_header("Content-Length", str(end + 1 - begin))
        self.end_headers()
        self.wfile.write(content[begin : end + 1])
        return None

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()


@contextlib.contextmanager
def web_server(folder: Path, handler: type[WholeFiles] = WholeFiles) -> Iterator[str]:
    """Serve `folder`; yields its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
