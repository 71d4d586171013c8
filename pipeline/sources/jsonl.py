"""Documents from JSON lines. A line that is no record is a failure; only a file that breaks off is damaged."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from infra.storage import ExternalFile, open_file
from pipeline.sections import JsonlSource, ParquetSource
from pipeline.sources.parts import split
from pipeline.sources.stream import CHUNK, Damaged, Foreign, Found, Limits, Part, Stream, open_stream
from pipeline.tasks.documents import Document

__all__ = ["field_of", "from_row", "parts", "read"]

_LINES = "make lines of an array (jq -c '.[]' does so)"
_OPENED = (b"[", b"{", b"\xef\xbb\xbf[", b"\xef\xbb\xbf{")
_DECODER = json.JSONDecoder(strict=False)
_SPACE = re.compile(r"\s*")
_PADDING = b" \t\r\n\0\x1a"
"""What may stand on a line of no record: some systems end a text with Control-Z, or fill it up with NULs."""
SHOWN = 2000
"""Characters of an unreadable line kept among the rejects."""


def parts(source: JsonlSource, file: ExternalFile, size: int) -> list[Part]:
    """`file` in parts of about `size` bytes; one, where it is UTF-16, whose lines end where bytes do not tell."""
    with open_file(file) as raw:
        is_wide = raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return [Part(file)] if is_wide else split(file, size)


def read(source: JsonlSource, part: Part, limits: Limits) -> Iterator[Found]:
    """A document per line of `part`, to which belong the lines after its line ends; empty ones are passed over.

    Raises:
        Damaged: the last line breaks off.
    """
    number, lost = 0, bool(part.begin)
    with open_stream(part) as stream:
        if not part.begin:
            stream.recode()
        while True:
            try:
                if lost:
                    _pass(stream)
                    lost = False
                while stream.mine(1):
                    number += 1
                    place: dict[str, Any] = {"url": "", "line": number}
                    line = stream.readline(limits.bytes + 1)
                    if len(line) > limits.bytes and not line.endswith(b"\n"):
                        _pass(stream)
                        yield Document(text="", id="", metadata=place), "too_large"
                    elif line.strip(_PADDING):
                        if number == 1 and line.strip() in _OPENED:
                            raise Foreign("JSON over several lines, not a record on each", _LINES)
                        yield from _parse(source, line, place)
                return
            except Foreign:
                raise
            except Damaged as damage:
                if not stream.resync():
                    raise
                yield Document(text="", id="", metadata={"url": "", "failure": str(damage)}), "failure/damaged"
                lost = True


def _pass(stream: Stream) -> None:
    """Pass over the rest of a line."""
    while (rest := stream.readline(CHUNK)) and not rest.endswith(b"\n"):
        pass


def _parse(source: JsonlSource, line: bytes, place: dict[str, Any]) -> Iterator[Found]:
    """The records of a line: one, or those that stand on it without a line end between them."""
    rows: list[Any] = []
    try:
        rows = _rows(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        if error.end == len(error.object) and not line.endswith(b"\n"):
            raise _cut(place) from None
        problem, rule = f"byte {error.start} is not UTF-8", "failure/encoding"
    except (ValueError, RecursionError) as error:
        if not line.endswith(b"\n"):
            raise _cut(place) from None
        problem, rule = str(error), "failure/json"
    else:
        problem, rule = "", "failure/json"
    for row in rows:
        if isinstance(row, dict):
            yield from_row(source, row, place)
            continue
        problem = f"{type(row).__name__} where an object should be{_hint(row)}"
    if problem:
        shown = line[:SHOWN].decode("utf-8", "backslashreplace").rstrip("\n")
        yield Document(text=shown, id="", metadata=place | {"failure": problem}), rule


def _rows(line: str) -> list[Any]:
    """The values of a line.

    Raises:
        ValueError, RecursionError: it is no JSON.
    """
    line = line.lstrip("\x1e")  # what begins a record of RFC 7464
    try:
        return [json.loads(line, strict=False)]
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
        if (bare := line.rstrip()).endswith(","):  # a line of an array
            line = bare[:-1]
    except ValueError:
        return [json.loads(line, strict=False, parse_int=str)]  # a number of thousands of digits
    rows, place = [], 0
    while place < len(line):
        row, place = _DECODER.raw_decode(line, place)
        rows.append(row)
        place = _SPACE.match(line, place).end()  # type: ignore[union-attr]
    return rows


def _hint(row: Any) -> str:
    return f"; {_LINES}" if isinstance(row, list) else ""


def _cut(place: dict[str, Any]) -> Damaged:
    return Damaged(f"line {place['line']}", "truncated: the last line is not whole")


def from_row(source: JsonlSource | ParquetSource, row: dict[str, Any], place: dict[str, Any]) -> Found:
    """The document of a row, whose `place` in the file it keeps only if it cannot be read. No value is no text."""
    text = field_of(row, source.text_field)
    if text is None and _is_there(row, source.text_field):
        text = ""
    if not isinstance(text, str):
        kind = "missing, there is " + ", ".join(list(row)[:20])[:200] if text is None else type(text).__name__
        return Document(text="", id="", metadata=place | {"failure": f"{source.text_field} is {kind}"}), "failure/field"
    metadata = {}
    for name in source.metadata_fields:
        if (value := field_of(row, name)) is not None:
            metadata[name] = value
    metadata["url"] = str(field_of(row, source.url_field) or "")
    rule = None if len(text.strip()) >= source.min_characters else "too_short"
    return Document(text=text, id="", metadata=metadata), rule


def field_of(row: dict[str, Any], name: str) -> Any:
    """The value of a key, or None; `a.b` is that of key `a.b`, or else of `b` in the object under `a`."""
    value = row.get(name)
    if value is None and "." in name:
        value = row
        for step in name.split("."):
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _is_there(row: dict[str, Any], name: str) -> bool:
    inner, _, last = name.rpartition(".")
    holder = field_of(row, inner) if inner else row
    return name in row or (isinstance(holder, dict) and last in holder)
