"""A TCP-level stand-in for bad luck: an HTTP proxy before a real S3 server that is slow, fails, or forgets a write."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP = {"connection", "transfer-encoding", "content-length", "expect"}


@dataclass
class Faults:
    """What goes wrong from now on; may be changed while the proxy runs."""

    delay: float = 0.0
    """Seconds that every answer is late."""
    failing: float = 0.0
    """Share of the requests that are answered 503."""
    forget: str = ""
    """A PUT whose path ends so is answered 200 and never reaches the server, `forgets` times."""
    forgets: int = 0
    refuse: str = ""
    """A request whose address holds this is answered with `status`, and never reaches the server."""
    status: int = 403
    refused: int = 0
    seen: int = 0
    failed: int = 0
    refused: int = 0
    """Requests that found the server down."""
    forgotten: list[str] = field(default_factory=list)


@contextlib.contextmanager
def faulty(address: str, faults: Faults, seed: int = 1) -> Iterator[str]:
    """Address of a proxy before the server at `address`."""
    there = urlsplit(address)
    chance, lock = random.Random(seed), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self._body()
            with lock:
                faults.seen += 1
                fails = chance.random() < faults.failing
                faults.failed += fails
                path = urlsplit(self.path).path
                refuses = bool(faults.refuse) and faults.refuse in self.path
                faults.refused += refuses
                forgets = self.command == "PUT" and faults.forgets > 0 and path.endswith(faults.forget)
                if forgets:
                    faults.forgets -= 1
                    faults.forgotten.append(path)
            time.sleep(faults.delay)
            if fails:
                return self._answer(503, {}, b"<Error><Code>SlowDown</Code><Message>busy</Message></Error>")
            if refuses:
                code = {403: b"AccessDenied", 404: b"NoSuchBucket"}.get(faults.status, b"InternalError")
                return self._answer(
                    faults.status, {}, b"<Error><Code>" + code + b"</Code><Message>no</Message></Error>"
                )
            if forgets:
                return self._answer(200, {"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'}, b"")
            connection = http.client.HTTPConnection(there.hostname or "", there.port, timeout=60)
            try:
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                self._answer(answer.status, dict(answer.getheaders()), answer.read())
            except OSError:
                with lock:
                    faults.refused += 1
                self.close_connection = True  # the server is down: so is the connection
            finally:
                connection.close()
            return None

        def _body(self) -> bytes | None:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                parts = []
                while length := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(length))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0))) or None

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in HOP:
                    self.send_header(name, value)
            length = next(
                (value for name, value in headers.items() if name.lower() == "content-length"), str(len(body))
            )
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815  (the library's names)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
