"""HTTP responses as servers and crawlers really leave them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
from backports import zstd

from pipeline.sources.http import NotHttp, media_type_of, response_of

LIMIT = 1_000_000
TEXT = b"<p>The harbour of the old town lies open to the west, and the wind comes in with the tide.</p>\n" * 20


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _chunked(data: bytes, size: int = 500, end: bytes = b"\r\n") -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x%b%b%b" % (len(piece), end, piece, end) for piece in pieces) + b"0" + end + end


def _body(head: str, body: bytes, limit: int = LIMIT) -> bytes:
    return response_of(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body).body(limit)


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "in capitals": ("GZIP", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without zlib's header": ("deflate", _raw_deflate),
    "x-deflate": ("x-deflate", _raw_deflate),
    "brotli": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
    "one upon another": ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
    "three": ("br, zstd, gzip", lambda data: gzip.compress(zstd.compress(brotli.compress(data)))),
    "several members": ("gzip", lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:])),
    "several frames": ("zstd", lambda data: zstd.compress(data[:700]) + zstd.compress(data[700:])),
    "rubbish after gzip": ("gzip", lambda data: gzip.compress(data) + b"\0\0 rubbish"),
    "rubbish after deflate": ("deflate", lambda data: zlib.compress(data) + b"\r\n<!-- cached -->"),
    "rubbish after brotli": ("br", lambda data: brotli.compress(data) + b"\r\n<!-- cached -->"),
    "rubbish after zstd": ("zstd", lambda data: zstd.compress(data) + b"\r\n<!-- cached -->"),
    "says gzip, is deflate": ("gzip", zlib.compress),
    "says gzip, is zstd": ("gzip", zstd.compress),
    "says deflate, is gzip": ("deflate", gzip.compress),
    "says br, is gzip": ("br", gzip.compress),
    "says nothing, is gzip": ("", gzip.compress),
    "identity": ("identity", bytes),
    "none": ("none", bytes),
    "a charset in the wrong place": ("utf-8", bytes),
    "says gzip, is plain": ("gzip", bytes),
    "says br, is plain": ("br", bytes),
    "says deflate, is plain": ("deflate", bytes),
    "says zstd, is plain": ("zstd", bytes),
    "says gzip twice, is it once": ("gzip, gzip", gzip.compress),
    "says what nobody knows, is plain": ("sdch", bytes),
    "says gzip once, is it twice": ("gzip", lambda body: gzip.compress(gzip.compress(body))),
    "says gzip, is br": ("gzip", brotli.compress),
    "says nothing, is deflate": ("identity", zlib.compress),
}


@pytest.mark.parametrize(("coding", "encode"), CODINGS.values(), ids=CODINGS)
def test_codings(coding: str, encode: Callable[[bytes], bytes]) -> None:
    assert _body(f"Content-Encoding: {coding}", encode(TEXT)) == TEXT
    assert _body(f"content-encoding :{coding}\r\nTransfer-Encoding: chunked", _chunked(encode(TEXT))) == TEXT
    assert _body(f"Transfer-Encoding: {coding}, chunked", _chunked(encode(TEXT))) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_what_a_bomb_becomes_is_bounded(coding: str) -> None:
    bomb = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}[coding]
    assert len(_body(f"Content-Encoding: {coding}", bomb(bytes(20_000_000)), 1000)) == 1001
    many = bomb(bytes(3000)) * 3
    assert len(_body(f"Content-Encoding: {coding}", many, 1000)) == 1001


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_breaks_off_gives_what_came_before(coding: str) -> None:
    noise = bytes(range(32, 127)) * 10 + b"".join(b"%d " % (n * n % 9973) for n in range(30_000))
    encode = {"gzip": gzip.compress, "deflate": _raw_deflate, "br": brotli.compress, "zstd": zstd.compress}[coding]
    coded = encode(noise)
    found = _body(f"Content-Encoding: {coding}", coded[: len(coded) * 2 // 3])
    assert noise.startswith(found)
    assert len(found) > len(noise) // 3 or coding in ("br", "zstd")  # their blocks are larger


def test_what_cannot_be_decoded_is_said() -> None:
    for coding, body, said in (
        ("compress", b"\x1f\x9d\x90" + bytes(50), "the content coding 'compress' is not read here"),
        ("gzip", b"\x1f\x8b\x08\0" + b"\xff" * 100, "the body is corrupt"),
        ("br", b"\xff\x00\x03" * 100, "the body is corrupt"),
        (", ".join(["gzip"] * 9), gzip.compress(TEXT), "9 codings, one upon another"),
    ):
        with pytest.raises(NotHttp, match=said):
            _body(f"Content-Encoding: {coding}", body)


@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
def test_chunks_that_break_off_anywhere(end: bytes) -> None:
    """No size stays in the text, and what is there up to the cut is kept."""
    whole = _chunked(TEXT, 300, end)
    for cut in range(5, len(whole)):
        found = _body("Transfer-Encoding: chunked", whole[:cut])
        assert TEXT.startswith(found.rstrip(b"\r\n")), cut
        sizes = whole[:cut].count(b"12c" + end) * (3 + 2 * len(end))
        assert len(found) >= cut - sizes - 12, cut


def test_what_is_no_coding_leaves_control_characters_alone() -> None:
    for coding in ("binary", "8bit", "iso-8859-1", ""):
        assert _body(f"Content-Encoding: {coding}", b"\x01" + TEXT) == b"\x01" + TEXT


def test_a_size_may_have_zeros_before_it() -> None:
    assert _body("Transfer-Encoding: chunked", b"000000000005\r\nhello\r\n000000000000\r\n\r\n") == b"hello"


def test_what_is_not_in_chunks_though_it_says_so() -> None:
    for body in (TEXT, b"add\nand subtract\n" * 400, b"\n" + TEXT, b"10 green bottles", b""):
        assert _body("Transfer-Encoding: chunked", body) == body
    assert (
        _body("Transfer-Encoding: chunked", b"5;name=value\r\nhello\r\n 2 \r\n, \r\n0\r\nTrailer: x\r\n\r\n")
        == b"hello, "
    )


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.1 200", 200),
        ("HTTP/1.0 404", 404),
        ("HTTP/2 200", 200),
        ("HTTP/2.0 200 OK", 200),
        ("HTTP/3 503 ", 503),
        ("http/1.1  301\tMoved", 301),
    ],
)
def test_status_lines(line: str, status: int) -> None:
    for end in ("\r\n", "\n"):
        response = response_of(f"{line}{end}Content-Type: a{end}{end}body\n\nmore".encode())
        assert (response.status, response.fields, response.raw) == (status, {"content-type": ["a"]}, b"body\n\nmore")
        assert response_of(f"{line}{end}{end}body".encode()).raw == b"body"
        assert response_of(f"{line}{end}Content-Type: a".encode()).raw == b""


def test_responses_before_the_one_that_counts() -> None:
    page = b"HTTP/1.1 200 OK\r\n\r\nbody"
    for before in (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.0 200 Connection established\r\nVia: a\r\n\r\n"):
        assert response_of(before + page).raw == b"body"
        assert response_of(before * 3 + page).raw == b"body"
    assert response_of(b"HTTP/1.1 200 OK\r\n\r\n" + page).raw == page, "a page about HTTP"
    with pytest.raises(NotHttp, match="interim"):
        response_of(b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + page)


@pytest.mark.parametrize(
    "block", [b"", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"<html>", b"HTTP/1.1 2000\r\n"]
)
def test_what_has_no_status_line(block: bytes) -> None:
    with pytest.raises(NotHttp, match="no status line"):
        response_of(block)


def test_folded_and_repeated_fields() -> None:
    response = response_of(
        b"HTTP/1.1 200 OK\nContent-Type: text/html;\n\tcharset=koi8-r\r\nContent-Encoding: deflate\n"
        b"Content-Encoding: gzip\n\n" + gzip.compress(zlib.compress(TEXT))
    )
    assert media_type_of(response.fields["content-type"][0]) == ("text/html", "koi8-r")
    assert response.body(LIMIT) == TEXT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text/html", ("text/html", None)),
        ("Text/HTML; Charset=UTF-8", ("text/html", "UTF-8")),
        ('text/html;charset="euc-kr"', ("text/html", "euc-kr")),
        ("text/html ; charset = 'x' ; a=b", ("text/html", "x")),
        ("text/html; xcharset=a; charset=b; charset=c", ("text/html", "b")),
        ("text/html, text/html; charset=b", ("text/html", "b")),
        ("text/html; charset=", ("text/html", None)),
        ("", ("", None)),
    ],
)
def test_media_types(value: str, expected: tuple[str, str | None]) -> None:
    assert media_type_of(value) == expected
