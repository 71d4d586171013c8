"""Is the memory of the data stages flat? ``python -m bench.memory [--quick] [--sizes 10,100,1000] [--json FILE]``.

Makes inputs of some MB out of ``DEEPMILL_CORPORA`` (default ``../shared/corpora``) by repetition with edits: every
further copy of a page, article, book or file of code has a quarter of its words exchanged, so that it stays a document
of its own, or, one copy in five, a word in two hundred, so that `dedup` has copies to find. Each stage then runs on one
worker in a process of its own. ``process`` is the peak of that process as the kernel kept it, ``tree`` the peak of it
and the processes it started, pages shared among them counted once, seen every half second.

A stage is flat if its peak on the largest input is at most half as much again as on the one before it.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.corpora import corpora
from bench.scale import chain
from bench.table import Row, bench_parser, print_table, row

SHARES = {"web": 0.40, "wiki": 0.15, "book": 0.25, "code": 0.20}
"""Of the bytes."""
EDITS, SMALL_EDITS, SMALL_SHARE = 0.25, 0.005, 0.2
"""Share of the words exchanged in most copies, in the others, and the share of those others."""
FLAT = 1.5
MARKUP = re.compile(r"(<script.*?</script>|<style.*?</style>|<[^>]*>|&\w+;|[^\w<&]+|[<&])", re.DOTALL)
PLAIN = re.compile(r"(\W+)")


def edited(text: str, source: random.Random, pattern: re.Pattern[str] = PLAIN) -> str:
    """`text` with some of its words exchanged for others of its words; what `pattern` matches stays."""
    pieces = pattern.split(text)
    words = range(0, len(pieces), 2)
    if len(words) < 2:
        return text
    share = SMALL_EDITS if source.random() < SMALL_SHARE else EDITS
    places = [2 * int(source.random() * len(words)) for _ in range(int(share * len(words)))]
    for place in places:
        if pieces[place]:
            pieces[place] = pieces[2 * int(source.random() * len(words))] or pieces[place]
    return "".join(pieces)


def web(folder: Path, copy: int, source: random.Random) -> Iterator[bytes]:
    """WARC records of pages."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    for crawl in sorted(folder.glob("web/*.warc.gz")):
        with crawl.open("rb") as raw:
            for record in ArchiveIterator(raw, record_types=WarcRecordType.response, parse_http=True):
                if "html" not in (record.http_content_type or ""):
                    continue
                body = record.reader.read()
                if copy:
                    body = edited(body.decode("utf-8", "replace"), source, MARKUP).encode()
                address = str(record.headers.get("WARC-Target-URI")).strip("<>").replace("127.0.0.1", f"copy{copy}.org")
                http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
                head = (
                    f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {address}\r\n"
                    "WARC-Date: 2026-01-01T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n"
                    f"WARC-Record-ID: <urn:uuid:{random.Random(address).getrandbits(128):032x}>\r\n"
                    f"Content-Length: {len(http) + len(body)}\r\n\r\n"
                )
                yield head.encode() + http + body + b"\r\n\r\n"


def wiki(folder: Path, copy: int, source: random.Random) -> Iterator[bytes]:
    """`<page>` elements."""
    import bz2

    for dump in sorted(folder.glob("wiki/*.bz2")):
        text = bz2.decompress(dump.read_bytes()).decode("utf-8", "replace")
        for page in re.findall(r" *<page>.*?</page>\n", text, re.DOTALL):
            if copy:
                head, mark, body = page.partition("<text")
                start, close, prose = body.partition(">")
                prose, end, tail = prose.partition("</text>")
                head = head.replace("</title>", f" ({copy})</title>")
                page = head + mark + start + close + edited(prose, source, MARKUP) + end + tail
            yield page.encode()


def book(folder: Path, copy: int, source: random.Random) -> Iterator[bytes]:
    """Whole books."""
    for path in sorted(folder.glob("book/se_*.txt")):
        text = path.read_text(encoding="utf-8")
        yield (edited(text, source) if copy else text).encode()


def code(folder: Path, copy: int, source: random.Random) -> Iterator[bytes]:
    """Lines of JSON."""
    for path in sorted(folder.glob("code/*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                text = next(value for key, value in record.items() if key in ("text", "content"))
                yield (json.dumps({"text": edited(text, source) if copy else text}) + "\n").encode()


MAKERS: dict[str, Callable[[Path, int, random.Random], Iterator[bytes]]] = {
    "web": web, "wiki": wiki, "book": book, "code": code,
}  # fmt: skip
SITE = (
    b"<mediawiki><siteinfo><sitename>Copies</sitename><base>https://copies.org/wiki/Main</base>"
    b'<namespaces><namespace key="0" /><namespace key="6">File</namespace><namespace key="14">Category</namespace>'
    b"</namespaces></siteinfo>\n"
)


def make(folder: Path, texts: Path, size: int) -> dict[str, Any]:
    """Write `size` bytes of raw files; the section `extract.sources` that reads them."""
    sources: dict[str, Any] = {}
    for kind, share in SHARES.items():
        random_source = random.Random(kind)
        budget, written, copy = int(size * share), 0, 0
        (folder / kind).mkdir(parents=True)
        if kind == "book":
            while written < budget:
                for number, text in enumerate(MAKERS[kind](texts, copy, random_source)):
                    if written < budget:
                        (folder / kind / f"{copy:04d}-{number:02d}.txt").write_bytes(text)
                        written += len(text)
                copy += 1
        else:
            name = {"web": "crawl.warc", "wiki": "dump.xml", "code": "code.jsonl"}[kind]
            with (folder / kind / name).open("wb") as out:
                out.write(SITE if kind == "wiki" else b"")
                while written < budget:
                    for piece in MAKERS[kind](texts, copy, random_source):
                        if written < budget:
                            written += out.write(piece)
                    copy += 1
                out.write(b"</mediawiki>\n" if kind == "wiki" else b"")
        paths = [str((folder / kind).resolve())] if kind == "book" else [str((folder / kind / name).resolve())]
        sources[kind] = {"kind": "jsonl" if kind == "code" else kind, "paths": paths}
    return sources


def judge(sizes: list[int], found: dict[int, list[dict[str, Any]]]) -> list[Row]:
    """A row per stage and size, and one per stage that says whether its memory is flat."""
    rows = []
    for place, first in enumerate(found[sizes[0]]):
        peaks = [found[size][place] for size in sizes if size in found]
        for size, entry in zip(sizes, peaks, strict=False):
            for key, what in (("process", "process"), ("peak", "tree")):
                rows.append(
                    row(f"{first['stage']}, {size} MB: peak of the {what}", "MiB", entry[key] / 2**20, {}, None)
                )
            rows.append(row(f"{first['stage']}, {size} MB: read", "MB", entry["in"] / 1e6, {}, None))
            rows.append(row(f"{first['stage']}, {size} MB: processor time", "s", entry["seconds"], {}, None))
        if len(peaks) > 1:
            growth = peaks[-1]["peak"] / peaks[-2]["peak"]
            rows.append(
                row(f"{first['stage']}: peak, last size to the one before", "ratio", growth, {}, FLAT, most=True)
            )
    return rows


def _measure(folder: Path, size: int) -> list[dict[str, Any]]:
    """Make `size` MB and run the stages, as far as that has not been done in `folder`."""
    recorded = folder / "sources.json"
    if not recorded.exists():
        shutil.rmtree(folder, ignore_errors=True)
        texts = corpora("web", "wiki", "book", "code")
        if (process := os.fork()) == 0:  # its memory must not count as that of the stages
            sources = make(folder / "raw", texts, size * 1_000_000)
            recorded.write_text(json.dumps(sources))
            os._exit(0)
        if os.waitpid(process, 0)[1]:
            raise SystemExit("the input could not be made")
    return chain(json.loads(recorded.read_text()), lambda entry: print(size, json.dumps(entry), flush=True), folder)


def main() -> None:
    """Make, measure, print."""
    parser = bench_parser(__doc__, "3 and 10 MB")
    parser.add_argument("--sizes", default="10,100,1000", help="MB of raw input, least first")
    parser.add_argument("--folder", type=Path, help="keep all here; the same command goes on with the rest")
    options = parser.parse_args()
    sizes = [3, 10] if options.quick else [int(text) for text in options.sizes.split(",")]
    found: dict[int, list[dict[str, Any]]] = {}
    for size in sizes:
        with contextlib.ExitStack() as last:
            folder = options.folder or Path(last.enter_context(tempfile.TemporaryDirectory()))
            found[size] = _measure(folder / f"{size}mb", size)
        if options.json:
            options.json.write_text(json.dumps(judge(sizes, found), indent=2) + "\n")
    print_table(judge(sizes, found))


if __name__ == "__main__":
    main()
