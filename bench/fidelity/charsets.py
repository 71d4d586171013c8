"""Encodings that nobody declares, over the test files of chardet: the share that is decoded right, by family.

Right is the text that the family's encoding gives by the tables of the Encoding Standard, or Python's for what the
standard does not know (IBM855, Johab, UTF-32). What a page says of its own encoding is left unread. Peers answer with a
name, which is taken by the standard's tables where they know it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.fidelity.needs import folder, peer
from bench.table import Row, row
from pipeline.sources.charset import NotText, decode
from pipeline.sources.whatwg import decode_as, name_of

Reader = Callable[[bytes], str]
LANGUAGES = frozenset(
    {"arabic", "bulgarian", "croatian", "czech", "greek", "hebrew", "hungarian"}
    | {"polish", "romanian", "russian", "slovak", "slovene", "turkish"}
)
"""What the names of families end in after a hyphen."""
OTHERS = {
    "maccyrillic": "x-mac-cyrillic",
    "macroman": "macintosh",
    "cp949": "euc-kr",
    "cp932": "shift_jis",
    "utf-8-sig": "utf-8",
    "ibm855": "cp855",
    "iso-2022-kr": "iso2022_kr",
    "utf-16": "utf-16",  # by the mark, and no label
}
"""Families under the name that `decode_as` takes, where no label of the standard is meant."""
TARGET = 95.0


def rows(data: Path | None, quick: bool) -> Iterable[Row]:
    """Files decoded right by family and in all, and what that takes."""
    place = folder(data, "chardet", "git clone https://github.com/chardet/chardet", "tests/EUC-KR")
    known: dict[str, list[tuple[bytes, str]]] = defaultdict(list)
    for path in sorted((place / "tests").glob("*/*")):
        if (name := _encoding(path.parent.name)) is not None:
            body = path.read_bytes()
            known[path.parent.name].append((body, _decoded(body, name)))
    if quick:
        known = defaultdict(list, {family: files[:2] for family, files in known.items()})
    yield from _families(known)


def _families(known: dict[str, list[tuple[bytes, str]]]) -> Iterator[Row]:
    right: dict[str, dict[str, int]] = {}
    seconds: dict[str, float | None] = {}
    for reader, read in _readers().items():
        if read is None:
            seconds[reader] = None
            continue
        begin = time.process_time()
        right[reader] = {family: sum(_safely(read, *file) for file in files) for family, files in known.items()}
        seconds[reader] = time.process_time() - begin
    for family, files in known.items():
        yield _row(f"{len(files)} files in {family}", {each: 100 * n[family] / len(files) for each, n in right.items()})
    count = sum(map(len, known.values()))
    yield _row(f"{count} files undeclared", {each: 100 * sum(n.values()) / count for each, n in right.items()})
    ours = seconds.pop("ours") or 0.0
    yield row(f"{count} files undeclared: time", "s", ours, seconds, None, most=True)


def _row(metric: str, shares: dict[str, float]) -> Row:
    peers = {name: share for name, share in shares.items() if name != "ours"}
    return row(metric, "% right", shares["ours"], peers, None) | {"target": TARGET, "holds": shares["ours"] >= TARGET}


def _encoding(family: str) -> str | None:
    """What a family's folder is named for; None for EUC-TW, which neither the standard nor Python knows."""
    name, _, language = family.lower().rpartition("-")
    name = name if language in LANGUAGES else family.lower()
    return None if name == "euc-tw" else OTHERS.get(name) or name_of(name) or name


def _decoded(body: bytes, name: str) -> str:
    return decode_as(body, name).removeprefix("\ufeff")


def _safely(read: Reader, body: bytes, text: str) -> bool:
    try:
        return read(body) == text
    except (LookupError, NotText, UnicodeError):
        return False


def _readers() -> dict[str, Reader | None]:
    peers = {
        "chardet": peer("chardet", lambda module: lambda body: module.detect(body)["encoding"]),
        "charset-normalizer": peer("charset_normalizer", _normalizer),
        "chardetng": peer("chardetng_py", lambda module: lambda body: module.detect(body, allow_utf8=True)),
        "uchardet": peer("cchardet", lambda module: lambda body: module.detect(body)["encoding"]),
        "resiliparse": peer(
            "resiliparse.parse.encoding",
            lambda module: lambda body: module.detect_encoding(body, from_html_meta=False),
        ),
    }
    found = {name: None if detect is None else _by_name(detect) for name, detect in peers.items()}
    return {"ours": lambda body: decode(body)[0], **found}


def _normalizer(module: Any) -> Callable[[Any], Any]:
    def detect(body: bytes) -> str | None:
        best = module.from_bytes(body).best()
        return best.encoding if best else None

    return detect


def _by_name(detect: Callable[[Any], Any]) -> Reader:
    def read(body: bytes) -> str:
        name = str(detect(body) or "none").replace("_", "-")
        return _decoded(body, name_of(name) or name)

    return read
