"""Files behind `http://` and `https://` addresses, read as if the server meant harm.

A recipe names an address; what the server makes of it is not the recipe's doing. So a redirect may not lead to another
scheme, nor into the network that this machine stands in, unless it stays with the host that was named: each host is
looked up here, and connected to under the very address that was looked at. A body has an end that is known or a bound,
headers too, and a server that sends next to nothing for minutes is given up.
"""

from __future__ import annotations

import base64
import http.client
import io
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import IO, Any, cast
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from infra.errors import UserError

__all__ = ["MOST_BYTES", "FileFacts", "TooLargeError", "look", "open_ranges", "open_whole"]

MOST_BYTES = 100_000_000_000
"""Most bytes of a body whose length the server does not tell; the largest file of Wikipedia's dumps has a third."""
HEADERS = 1 << 18
"""Most bytes before a body."""
OVERHEAD = 8
"""Times its own length that a body sent in pieces may take on the line."""
TIMEOUT = 60.0
"""Seconds in which something must come."""
GRACE, SLOWEST = 60.0, 1000
"""Seconds waited in all before the mean speed counts; least bytes a second."""
MOST_REDIRECTS = 10
BUFFER = 1 << 20
NEAR = 1 << 20
"""Bytes that are passed over rather than asked for anew."""
_KEPT = "%/:=&~+!$,;'@()*[]"
"""Characters of an address that need no quoting, or are it."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_EMBEDDING = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that stand for those of IPv4 (RFC 6052)."""


class TooLargeError(OSError):
    """A server sends more than it may."""


@dataclass(frozen=True)
class FileFacts:
    """What a server tells of a file."""

    size: int | None
    """In bytes; None where it is not told."""
    ranges: bool
    """Whether it sends a part of the file when asked for one: tried, for what its headers promise is no help."""
    etag: str = ""


def look(address: str) -> FileFacts | None:
    """What there is to know of a file; None where there is none, or redirects lead in a circle.

    Raises:
        OSError: the server cannot be reached, or not asked.
        UserError: it redirects to where it may not.
    """
    for headers in ({"Range": "bytes=0-0"}, {}):
        with _Answer.of(address, **headers) as answer:
            if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and headers:
                continue  # of an empty file
            if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise OSError(f"HTTP {answer.status}")
            if answer.status in _REDIRECTS or answer.status >= HTTPStatus.BAD_REQUEST:
                return None
            etag = answer.header("ETag")
            if answer.status == HTTPStatus.PARTIAL_CONTENT:
                total = answer.header("Content-Range").rpartition("/")[2]
                return FileFacts(_number(total), _number(total) is not None, etag)
            return FileFacts(_number(answer.header("Content-Length")), False, etag)
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def open_whole(address: str, most: int = MOST_BYTES) -> IO[bytes]:
    """The bytes of a file from the first to the last.

    Raises:
        OSError: the server cannot be reached or breaks off; TooLargeError: it sends more than `most` bytes.
        UserError: it redirects to where it may not.
    """
    answer = _Answer.of(address)
    if answer.status != HTTPStatus.OK:
        answer.close()
        raise _refused(address, answer.status)
    return io.BufferedReader(cast("Any", _Body(answer, most)), BUFFER)


def open_ranges(address: str, size: int) -> IO[bytes]:
    """The bytes of a file of `size` bytes in any order, from a server that sends parts of it.

    Raises:
        OSError: while reading, where the server cannot be reached, breaks off, or sends something else.
    """
    return io.BufferedReader(cast("Any", _Ranges(address, size)), BUFFER)


def _refused(address: str, status: int) -> OSError:
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return FileNotFoundError(address)
    return OSError(f"{address}: HTTP {status}")


class _Line(io.RawIOBase):
    """What a server sends, counted as it comes."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.room = HEADERS
        self._came, self._waited = 0, 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        began = time.monotonic()
        count = self._socket.recv_into(buffer)
        self._waited += time.monotonic() - began
        self._came += count
        self.room -= count
        if self.room < 0:
            raise TooLargeError("the server sends headers without end, or a body")
        if self._waited > GRACE and self._came < SLOWEST * self._waited:
            raise TimeoutError(f"{self._came} bytes in {self._waited:.0f} s")
        return count


class _Socket:
    """As much of a socket as `http.client` uses; it stays open until the answer is closed."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.line = _Line(connected)

    def sendall(self, data: bytes) -> None:
        self._socket.sendall(data)

    def makefile(self, mode: str, *arguments: Any) -> io.BufferedReader:
        return io.BufferedReader(self.line, 1 << 16)

    def close(self) -> None:
        pass


class _Answer:
    """The answer to one request, behind whatever redirects there were."""

    def __init__(self, response: http.client.HTTPResponse, connected: socket.socket, line: _Line) -> None:
        self._response, self._socket, self.line = response, connected, line
        self.status = response.status

    @classmethod
    def of(cls, address: str, **headers: str) -> _Answer:
        """Ask for `address`; an answer that still redirects after `MOST_REDIRECTS` times."""
        url = address
        for _ in range(MOST_REDIRECTS):
            answer = _ask(url, address, headers)
            if answer.status not in _REDIRECTS or not answer.header("Location"):
                return answer
            answer.close()
            url = _followed(url, answer.header("Location"), address)
        return _ask(url, address, headers)

    def header(self, name: str) -> str:
        return self._response.getheader(name) or ""

    def readinto(self, buffer: Any) -> int:
        """OSError where the body breaks off."""
        try:
            count = self._response.readinto(buffer)
        except http.client.HTTPException as error:
            raise ConnectionError(f"the body breaks off ({error})") from None
        if not count and len(buffer) and self._response.length:
            raise ConnectionError(f"the body breaks off {self._response.length} bytes before its end")
        return int(count)

    def close(self) -> None:
        self._response.close()
        self._socket.close()

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ask(url: str, named: str, headers: dict[str, str]) -> _Answer:
    parts = _parsed(url)
    host, port = _origin(parts)
    connected = _connected(host, port, url, named)
    try:
        if parts.scheme == "https":
            connected = _tls().wrap_socket(connected, server_hostname=host)
        wrapped = _Socket(connected)
        connection = http.client.HTTPConnection(host, port)
        connection.sock = cast("Any", wrapped)
        connection.request("GET", _target(parts), headers={**_headers(parts), **headers})
        response = connection.getresponse()
    except http.client.HTTPException as error:
        connected.close()
        raise OSError(f"no answer of HTTP ({type(error).__name__} {error})") from None
    except BaseException:
        connected.close()
        raise
    wrapped.line.room = OVERHEAD * MOST_BYTES
    return _Answer(response, connected, wrapped.line)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _parsed(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _origin(parts)
    except ValueError as error:
        raise UserError(f"{url}: no address of the web ({error}); correct it") from None
    return parts


def _origin(parts: SplitResult) -> tuple[str, int]:
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("its scheme or its host is missing")
    host = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode()
    return host, parts.port or _PORTS[parts.scheme]


def _target(parts: SplitResult) -> str:
    path = quote(parts.path or "/", safe=_KEPT)
    return f"{path}?{quote(parts.query, safe=_KEPT + '?')}" if parts.query else path


def _headers(parts: SplitResult) -> dict[str, str]:
    host, port = _origin(parts)
    shown = f"[{host}]" if ":" in host else host
    found = {
        "Host": shown if port == _PORTS[parts.scheme] else f"{shown}:{port}",
        "User-Agent": "deepmill",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        found["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
    return found


def _followed(url: str, location: str, named: str) -> str:
    """Where a redirect leads.

    Raises:
        UserError: to another scheme than that of the web, or from https to http.
    """
    target = urljoin(url, location)
    scheme, before = urlsplit(target).scheme, urlsplit(url).scheme
    if scheme not in _PORTS or (before, scheme) == ("https", "http"):
        raise UserError(
            f"{named}: redirects from {before}: to {scheme}:, which is not followed; name the target itself"
        )
    return target


def _connected(host: str, port: int, url: str, named: str) -> socket.socket:
    """A connection to an address of `host` that may be read from.

    Raises:
        UserError: all its addresses are inside.
        OSError: none of the others answers.
    """
    own = _is_named(host, port, named)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    allowed = [entry for entry in found if _may(str(entry[4][0]), host, own)]
    if not allowed:
        inside = found[0][4][0] if found else "no address"
        how = f"leads to {url}" if url != named else f"{host} is a name"
        raise UserError(
            f"{named}: {how}, which is {inside}, inside this machine's own network; if that is meant, name that "
            "address itself in the recipe"
        )
    failure: OSError | None = None
    for family, kind, protocol, _, place in allowed:
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(TIMEOUT)
            connected.connect(place)
        except OSError as error:
            connected.close()
            failure = error
        else:
            return connected
    assert failure
    raise failure


def _is_named(host: str, port: int, named: str) -> bool:
    """Whether this is the server that the recipe names, or what it becomes when http goes over to https."""
    own_host, own_port = _origin(urlsplit(named))
    return host == own_host and (port == own_port or (own_port, port) == (80, 443))


def _may(address: str, host: str, named: bool) -> bool:
    """Whether an address may be connected to.

    What a recipe names may be inside. But a public name that points at this machine, or at what clouds keep there, is
    the doing of whoever holds the name.
    """
    ip = _plain(address)
    if ip.is_global and not ip.is_multicast:
        return True
    is_own = ip.is_loopback or ip.is_link_local or ip.is_unspecified
    is_public_name = "." in host.strip(".") and not re.fullmatch(r"[0-9.]+|.*\.(localhost|local|internal)\.?", host)
    return named and not (is_own and is_public_name)


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that this one stands for."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _EMBEDDING:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or ip
    return ip


class _Body(io.RawIOBase):
    """The body of an answer, of at most `most` bytes."""

    def __init__(self, answer: _Answer, most: int) -> None:
        self._answer, self._room, self._most = answer, most, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._answer.readinto(buffer)
        self._room -= count
        if self._room < 0:
            raise TooLargeError(
                f"the server sends more than {self._most} bytes; raise extract.max_download_bytes if it may"
            )
        return count

    def close(self) -> None:
        self._answer.close()
        super().close()


class _Ranges(io.RawIOBase):
    """A file in any order: what follows is read from the open answer, what lies elsewhere is asked for anew."""

    def __init__(self, address: str, size: int) -> None:
        self._address, self._size = address, size
        self._at = self._next = 0
        self._answer: _Answer | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if self._at < 0:
            self._at = 0
            raise ValueError("before the beginning")
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = memoryview(buffer)[: max(0, min(len(buffer), self._size - self._at))]
        if not len(wanted):
            return 0
        answer = self._reach()
        count = answer.readinto(wanted)
        if not count:
            raise ConnectionError(f"the body breaks off at byte {self._at}")
        self._at += count
        self._next = self._at
        return count

    def _reach(self) -> _Answer:
        """An answer whose next byte is the one at `_at`."""
        if self._answer is not None and 0 <= self._at - self._next <= NEAR:
            for size in self._steps():
                self._next += self._answer.readinto(bytearray(size))
        if self._answer is None or self._next != self._at:
            self._leave()
            answer = _Answer.of(self._address, Range=f"bytes={self._at}-{self._size - 1}")
            sent = answer.header("Content-Range").removeprefix("bytes ").partition("-")[0]
            if answer.status != HTTPStatus.PARTIAL_CONTENT or sent.strip() != str(self._at):
                answer.close()
                raise _refused(self._address, answer.status)
            self._answer, self._next = answer, self._at
        return self._answer

    def _steps(self) -> Iterator[int]:
        """Sizes of the reads that pass over what lies between."""
        before = -1
        while self._next < self._at and self._next != before:
            before = self._next
            yield min(1 << 16, self._at - self._next)

    def _leave(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def close(self) -> None:
        self._leave()
        super().close()
