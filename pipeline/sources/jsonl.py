"""Documents from JSON lines, and from JSON whose records are no lines: an array, or objects over several lines.

A line that is no record is a failure; only a file that breaks off is damaged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from infra.storage import ExternalFile
from pipeline.sections import JsonlSource, ParquetSource
from pipeline.sources.charset import NotText, decode
from pipeline.sources.json_values import BLANK, are_values, held_at, is_open, json_values
from pipeline.sources.parts import split
from pipeline.sources.signatures import SAVED_PAGE, content_of
from pipeline.sources.stream import CHUNK, Damaged, Foreign, Found, Limits, Part, Stream, open_stream, wide_encoding
from pipeline.sources.whatwg import REPLACEMENT, codec_of
from pipeline.tasks.documents import Document

__all__ = ["DAMAGED", "ENCODING", "Failure", "field_of", "from_row", "parts", "read", "records", "values_of"]

_DECODER = json.JSONDecoder(strict=False)
_SPACE = re.compile(r"\s*")
SAMPLE = 1 << 16
"""Bytes at the beginning of a file by which its encoding is told."""
LEAST_FOREIGN = 8
"""Characters beyond ASCII in them from which on an encoding other than UTF-8 is believed."""
_HEAD = 512
SHOWN = 2000
"""Characters of an unreadable line kept among the rejects."""
DAMAGED, ENCODING = "failure/damaged", "failure/encoding"
"""Rules of what is lost before a member that can be read again, and of a line in no encoding that is known."""


def parts(source: JsonlSource, file: ExternalFile, size: int) -> list[Part]:
    """`file` in parts of about `size` bytes; one, where records are no lines, or lines end where bytes do not tell."""
    try:
        with open_stream(Part(file), is_look=True) as stream:
            head = stream.sample(_HEAD)
    except Damaged:  # whoever reads it says so
        return [Part(file)]
    return [Part(file)] if wide_encoding(head) or are_values(head) else split(file, size)


def read(source: JsonlSource, part: Part, limits: Limits) -> Iterator[Found]:
    """A document per line of `part`, to which belong the lines after its line ends; empty ones are passed over.

    Raises:
        Damaged: the last line breaks off.
    """
    for place, row in records(part, limits):
        if isinstance(row, dict):
            yield from_row(source, row, place)
            continue
        found = row if isinstance(row, Failure) else _of_another_type(row)
        why = {"failure": found.problem} if found.problem else {}
        yield Document(text=found.text, id="", metadata=place | why), found.rule


def _of_another_type(row: Any) -> Failure:
    return Failure(json.dumps(row)[:SHOWN], "failure/json", f"{type(row).__name__} where an object should be")


class Failure(NamedTuple):
    """What is no record."""

    text: str
    """As much of it as is shown."""
    rule: str
    problem: str = ""


_TOO_LARGE = Failure("", "too_large")


def records(
    part: Part, limits: Limits, own: Collection[str] = (), listed: Collection[str] = ()
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Place and value of each record that begins in `part`; a `Failure` in place of what is none.

    Args:
        own: keys of a record, where a file may be one object that holds them all under another key.
        listed: keys of what a record may be a list of: where the first line begins so, each line is such a record.

    Raises:
        Damaged: the last line breaks off, or what cannot be passed over is corrupt.
        Foreign: this is no file of JSON.
    """
    with open_stream(part) as stream:
        lines = _Lines(part)
        if not part.begin:
            stream.recode()
            at = held_at(stream, own, limits.bytes)
            is_listed = listed and _begins_list(stream.sample(SAMPLE)[:SAMPLE], listed)
            if at or (are_values(stream.sample(_HEAD)) and not is_listed):
                stream.read(at)
                values = json_values(stream, limits.bytes, is_one_array=bool(at))
                for number, value in enumerate(values, 1):
                    place: dict[str, Any] = {"url": "", "record": number}
                    for record in [_TOO_LARGE] if value is None else lines.of(value + b"\n", place):
                        yield place, record
                return
        yield from _of_lines(lines, stream, limits, lost=bool(part.begin))


def _begins_list(head: bytes, keys: Collection[str]) -> bool:
    """Whether a file begins with a list, on one line, of objects with one of the `keys`."""
    line = head.lstrip(BLANK).split(b"\n")[0].decode("utf-8", "replace")
    if is_open(line.encode()) and len(line) < SAMPLE // 2:
        return False
    try:
        first, _ = _DECODER.raw_decode(line.removeprefix("[").lstrip())
    except (ValueError, RecursionError):
        return False
    return line.startswith("[") and isinstance(first, dict) and not first.keys().isdisjoint(keys)


def _of_lines(lines: _Lines, stream: Stream, limits: Limits, *, lost: bool) -> Iterator[tuple[dict[str, Any], Any]]:
    number = 0
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
                    yield place, _TOO_LARGE
                elif line.strip(BLANK):
                    for record in lines.of(line, place):
                        yield place, record
            return
        except Foreign:
            raise
        except Damaged as damage:
            if not stream.resync():
                raise
            yield {"url": ""}, Failure("", DAMAGED, str(damage))
            lost = True


def _pass(stream: Stream) -> None:
    """Pass over the rest of a line."""
    while (rest := stream.readline(CHUNK)) and not rest.endswith(b"\n"):
        pass


class _Lines:
    """What the lines of a file hold."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._codec: str | None = None

    def of(self, line: bytes, place: dict[str, Any]) -> Iterator[Any]:
        """The values of a line: one, or those that stand on it without a line end between them.

        Raises:
            Damaged: the line breaks off.
            Foreign: it is the first, and of no file of JSON.
        """
        try:
            yield from values_of(self._decoded(line))
            return
        except UnicodeDecodeError as error:
            is_cut = error.end == len(error.object)
            problem, rule = f"byte {error.start} is not UTF-8", ENCODING
        except (ValueError, RecursionError) as error:
            problem, rule, is_cut = str(error), "failure/json", is_open(line)
        if place.get("line") == 1 and not self._part.begin:
            _refuse_other(line)
        if is_cut and not line.endswith(b"\n"):
            raise Damaged(f"line {place['line']}", "truncated: the last line is not whole")
        yield Failure(line[:SHOWN].decode("utf-8", "backslashreplace").rstrip("\n"), rule, problem)

    def _decoded(self, line: bytes) -> str:
        """The text of a line: UTF-8, or the encoding of other lines of the file that are not."""
        try:
            return line.decode("utf-8-sig")
        except UnicodeDecodeError:
            if self._codec is None:
                with open_stream(Part(self._part.file), is_look=True) as stream:
                    self._codec = _other_encoding(stream.sample(SAMPLE)[:SAMPLE])
            if not self._codec:
                raise
            return line.decode(self._codec)


def _other_encoding(sample: bytes) -> str:
    """What the lines of a file are in that are not UTF-8, by the name of Python's codec; '' where it is not certain."""
    lines = sample.split(b"\n")[: -1 if len(sample) == SAMPLE else None]
    try:
        text, name = decode(b"\n".join(line for line in lines if not _is_utf_8(line)))
    except NotText:
        return ""
    foreign = len(text) - len(text.encode("ascii", "ignore"))
    return codec_of(name) if name != "utf-8" and foreign >= LEAST_FOREIGN and REPLACEMENT not in text else ""


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refuse_other(line: bytes) -> None:
    """Raise a Foreign where a file begins as one of another kind does."""
    if line.lstrip(BLANK).startswith(b"<"):
        raise Foreign(*SAVED_PAGE)
    if not line.lstrip(BLANK).startswith((b"{", b"[")) and (other := content_of(line)):
        raise Foreign(*other)


def values_of(line: str) -> Iterator[Any]:
    """The values of a line, in order.

    Raises:
        ValueError, RecursionError: it is no JSON, from there on.
    """
    line = line.strip("\x1e\0\x1a")  # what begins a record of RFC 7464, what ends a text of old systems
    try:
        yield json.loads(line, strict=False)
        return
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
        if (bare := line.rstrip()).endswith(","):  # a line of an array
            line = bare[:-1]
    except ValueError:
        yield json.loads(line, strict=False, parse_int=str)  # a number of thousands of digits
        return
    place = 0
    while place < len(line):
        row, place = _DECODER.raw_decode(line, place)
        yield row
        place = _SPACE.match(line, place).end()  # type: ignore[union-attr]


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
