"""Tiny raw files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infra.storage import ExternalFile
from pipeline.sources.stream import Damaged, Found, Limits, Part

LIMIT = 1_000_000
LIMITS = Limits(LIMIT, 2.0)


def external(path: Path, content: bytes) -> ExternalFile:
    """Write `content`, and the file as `resolve` would give it."""
    path.write_bytes(content)
    return ExternalFile(str(path), path.name, len(content))


def read_all(read: Callable[..., Iterator[Found]], source: Any, file: ExternalFile | Part) -> tuple[list[Found], str]:
    """What could be read, and what was then found damaged ('' if nothing)."""
    part = file if isinstance(file, Part) else Part(file)
    found: list[Found] = []
    try:
        for item in read(source, part, LIMITS):
            found.append(item)  # noqa: PERF402  (what came before the damage counts)
    except Damaged as damage:
        return found, str(damage)
    return found, ""


def warc_record(
    url: str, body: bytes, *, kind: str = "response", http: str = "200 OK", type: str = "text/html"
) -> bytes:
    """One record; `http` '' leaves out the HTTP headers."""
    block = (f"HTTP/1.1 {http}\r\nContent-Type: {type}\r\n\r\n".encode() if http else b"") + body
    content_type = "application/http; msgtype=response" if http else type
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
    return f"{head}Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n"


def page(words: str, title: str = "A title") -> bytes:
    """An HTML page with a paragraph."""
    return f"<html><head><title>{title}</title></head><body><p>{words}</p></body></html>".encode()


def wiki_page(title: str, text: str, *, namespace: int = 0, redirect: str = "") -> str:
    """A `<page>` of a dump."""
    target = f'<redirect title="{redirect}" />' if redirect else ""
    return (
        f"<page><title>{title}</title><ns>{namespace}</ns><id>7</id>{target}<revision><id>1</id>"
        f"<timestamp>2026-01-01T00:00:00Z</timestamp><text>{text}</text></revision></page>\n"
    )


def wiki_dump(*pages: str) -> bytes:
    """A dump of a German wiki, whose namespaces have names of their own."""
    return (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="de">\n'
        "<siteinfo><sitename>W</sitename><dbname>w</dbname><base>https://w.example/wiki/Main</base>"
        '<generator>g</generator><case>first-letter</case><namespaces><namespace key="0" case="first-letter" />'
        '<namespace key="6" case="first-letter">Datei</namespace></namespaces></siteinfo>\n'
        f"{''.join(pages)}</mediawiki>\n"
    ).encode()
