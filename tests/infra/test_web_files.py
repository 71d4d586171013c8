"""Servers that mean harm: redirects inward, bodies without end, lies about lengths, drips."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import shutil
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra import storage, web_files
from infra.errors import UserError
from infra.storage import ExternalFile, digest_of, open_file, open_seekable, resolve
from tests.infra.web import Ranges, WholeFiles, web_server

Reply = Callable[[str, io.BufferedIOBase], None]
"""Writes the answer to a request, whose text is given."""


@contextlib.contextmanager
def server(reply: Reply) -> Iterator[str]:
    """A server that answers every request by `reply`; yields its address."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            request = b""
            while b"\r\n\r\n" not in request and (line := self.rfile.readline()):
                request += line
            with contextlib.suppress(OSError):
                reply(request.decode("latin-1"), self.wfile)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address, block_on_close = True, True, False

    with Server(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def to(location: str) -> Reply:
    """Redirects there."""
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    return lambda _, out: out.write(head) and None


def endless(_: str, out: io.BufferedIOBase) -> None:
    """A body of pieces without end."""
    out.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        out.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


INSIDE = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://127.1:{port}/",
    "http://2130706433:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/",
    "http://192.168.0.1:{port}/",
    "//127.0.0.1:{port}/",
]


@pytest.mark.parametrize("target", INSIDE)
def test_a_redirect_does_not_lead_inside(tmp_path: Path, target: str) -> None:
    (tmp_path / "index.html").write_text("secret")
    with web_server(tmp_path) as inside:
        location = target.format(port=inside.rpartition(":")[2])
        with server(to(location)) as outside, pytest.raises(UserError, match="inside this machine's own network"):
            resolve([f"{outside}/a.jsonl"])


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://ftp.example/a", "gopher://h/", "data:text/plain,a"])
def test_a_redirect_does_not_lead_to_another_scheme(target: str) -> None:
    with server(to(target)) as outside, pytest.raises(UserError, match=r"redirects from http: to .*not followed"):
        resolve([f"{outside}/a.jsonl"])


def test_no_redirect_leads_from_https_to_http() -> None:
    with pytest.raises(UserError, match="redirects from https: to http:"):
        web_files._followed("https://h/a", "http://h/a", "https://h/a")


def test_a_redirect_after_the_file_was_found_leads_nowhere_either(tmp_path: Path) -> None:
    asked = []

    def reply(request: str, out: io.BufferedIOBase) -> None:
        asked.append(request)
        if len(asked) == 1:
            out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
        else:
            to("http://127.0.0.1:1/")(request, out)

    with server(reply) as outside:
        (file,) = resolve([f"{outside}/a"])
        with pytest.raises(UserError, match="inside this machine's own network"):
            open_file(file)


def test_a_redirect_on_the_host_that_was_named_is_followed(tmp_path: Path) -> None:
    def reply(request: str, out: io.BufferedIOBase) -> None:
        if request.startswith("GET /a "):
            to("/sub/b%20c?d=e")(request, out)
        else:
            assert request.startswith("GET /sub/b%20c?d=e ")
            out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")

    with server(reply) as address:
        (file,) = resolve([f"{address}/a"])
        assert (file.name, file.size) == ("a", 3)
        with open_file(file) as stream:
            assert stream.read() == b"abc"


def _lookup(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    """Let these names have these addresses."""
    real = socket.getaddrinfo
    known = {name.replace("_", "."): address for name, address in names.items()}
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: real(known.get(host, host), *a, **k))


def test_a_name_is_looked_up_where_it_is_connected_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("secret")
    _lookup(monkeypatch, rebound_example="127.0.0.1", corpus="127.0.0.1", cloud_example="169.254.169.254")
    with web_server(tmp_path) as inside:
        port = inside.rpartition(":")[2]
        for name in ("rebound.example", "cloud.example"):
            with pytest.raises(UserError, match=f"{name} is a name, which is .*name that address itself"):
                resolve([f"http://{name}:{port}/a"])
            with server(to(f"http://{name}:{port}/a")) as outside, pytest.raises(UserError, match="own network"):
                resolve([f"{outside}/a"])
        assert resolve([f"http://corpus:{port}/a"])[0].size == 6, "a name of this network is its owner's word"


def test_a_body_without_end_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(endless) as address:
        (file,) = resolve([f"{address}/a.jsonl"], 3_000_000)
        assert file.size == 0
        with open_file(file) as stream, pytest.raises(web_files.TooLargeError, match="more than 3000000 bytes"):
            stream.read()
        with pytest.raises(UserError, match=r"a\.jsonl: the server sends more than 3000000"):
            digest_of(file)
        with pytest.raises(web_files.TooLargeError):
            open_seekable(file)


def test_no_more_is_fetched_than_the_disk_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=storage.KEPT_FREE + 1_000_000))
    with server(endless) as address:
        (file,) = resolve([f"{address}/a.parquet"])
        monkeypatch.setattr(
            shutil, "disk_usage", _filling(usage, storage.KEPT_FREE + 10_000_000)
        )  # as the disk would tell while it fills
        with pytest.raises(UserError, match="has no room for it"):
            open_seekable(file)
    with pytest.raises(UserError, match="has no room for it"):
        storage._check_room(ExternalFile("http://h/a", "a", 5_000_000), 1 << 60)


def _filling(usage: shutil._ntuple_diskusage, free: int) -> Callable[[str], object]:
    left = iter(range(free, 0, -1_000_000))
    return lambda _: usage._replace(free=next(left))


def test_a_length_beyond_all_bounds_is_refused() -> None:
    head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/900000000000000000\r\nContent-Length: 1\r\n\r\nx"
    refused = pytest.raises(UserError, match=r"has 900000000000000000 bytes.*max_download_bytes")
    with server(lambda _, out: out.write(head) and None) as address, refused:
        resolve([f"{address}/a.warc"])


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1_000_000,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 10_000_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000_000,
        b"x" * 10_000_000,
        b"HTTP/1.1 abc\r\n\r\n",
    ],
)
def test_headers_have_an_end(head: bytes) -> None:
    with (
        server(lambda _, out: out.write(head) and None) as address,
        pytest.raises(UserError, match="cannot be reached"),
    ):
        resolve([f"{address}/a"])


def test_a_body_that_breaks_off_is_noticed() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"
    with server(lambda _, out: out.write(head) and None) as address:
        (file,) = resolve([f"{address}/a"])
        with open_file(file) as stream, pytest.raises(ConnectionError, match="breaks off 97 bytes before its end"):
            stream.read()
    pieces = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nffffffff\r\nabc"
    with server(lambda _, out: out.write(pieces) and None) as address:
        (file,) = resolve([f"{address}/a"])
        with open_file(file) as stream, pytest.raises(ConnectionError, match="breaks off"):
            stream.read()


def test_a_server_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_files, "GRACE", 0.0)
    monkeypatch.setattr(web_files, "SLOWEST", 1 << 40)
    with server(endless) as address, pytest.raises(UserError, match=r"cannot be reached \(\d+ bytes in"):
        resolve([f"{address}/a"])


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_files, "TIMEOUT", 0.2)
    done = threading.Event()
    with server(lambda *_: done.wait(30) and None) as address, pytest.raises(UserError, match="cannot be reached"):
        resolve([f"{address}/a"])
    done.set()


def test_a_part_that_is_not_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    liar = (
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/1000000000\r\nContent-Length: 10\r\n\r\n0123456789"
    )
    with server(lambda _, out: out.write(liar) and None) as address:
        (file,) = resolve([f"{address}/a"])
        assert file.size == 1_000_000_000
        with open_file(file) as stream:
            stream.seek(500_000_000)
            with pytest.raises(OSError, match="HTTP 206"):
                stream.read(10)


@pytest.mark.parametrize("handler", [WholeFiles, Ranges])
def test_any_place_of_a_file(tmp_path: Path, handler: type[WholeFiles]) -> None:
    content = random.Random(0).randbytes(3_000_000)
    (tmp_path / "a b.bin").write_bytes(content)
    (tmp_path / "empty").write_bytes(b"")
    with web_server(tmp_path, handler) as address:
        (file,) = resolve([f"{address}/a b.bin"])
        assert digest_of(file) == hashlib.sha256(content).hexdigest()
        with open_seekable(file) as stream:
            for place in (2_999_990, 0, 5, 1_500_000, 1_500_100, 2_700_000, 3_000_000, 40):
                stream.seek(place)
                assert stream.read(100) == content[place : place + 100]
            stream.seek(-4, 2)
            assert stream.read() == content[-4:]
        (empty,) = resolve([f"{address}/empty"])
        with open_file(empty) as stream:
            assert stream.read() == b""


def test_a_login_in_the_address_is_sent_to_its_host_alone() -> None:
    asked: list[str] = []

    def reply(request: str, out: io.BufferedIOBase) -> None:
        asked.append(request)
        out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with server(reply) as address:
        resolve([address.replace("//", "//me:p%40ss@") + "/a"])
    assert "Authorization: Basic bWU6cEBzcw==" in asked[0]
    assert "me:" not in asked[0].splitlines()[0]
