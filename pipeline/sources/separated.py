"""Documents from CSV and TSV files, a row each; the first line names the columns."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Collection, Iterator
from itertools import chain
from typing import Any

from infra.errors import UserError
from pipeline.sections import ParquetSource
from pipeline.sources.charset import NotText, decode
from pipeline.sources.stream import Damaged, Found, Limits, Part, Stream, open_stream
from pipeline.sources.tables import WHOLE, Row, Rows, batched, failed_row, finished_row, found_rows
from pipeline.sources.whatwg import codec_of

__all__ = ["read", "table_of"]

SAMPLE = 1 << 16
"""Bytes by which a file's encoding is told, and what its quotes mean."""
_SEPARATOR = re.compile(r"sep=.\s*\Z")
"""What Excel may write before the line of names."""
_SPACED = re.compile(r"[,;|] +\S")
_ESCAPED, _DOUBLED = re.compile(r"\\\"[^\s\",;|]"), re.compile(r"[^\s\",;|]\"\"|\"\"[^\s\",;|]")
"""A quote within a field, marked by a stroke, as databases write it, or by another quote."""
_BACKSLASHED = re.compile(rb"(?<!\\)((?:\\\\)*)\\\"")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_NONE = "\x1f"
"""What stands between the columns of a table that has one: nothing that a text has in it."""
MOST_OF_A_ROW = 4
"""Times the bytes of a record that a row may have with all its fields."""


def read(source: ParquetSource, part: Part, limits: Limits) -> Iterator[Found]:
    """A document per row.

    Raises:
        Damaged: the file breaks off, or has no line of names.
        UserError: there is no text column, or there are two.
    """
    yield from found_rows(_decoded, source, part, limits)


def _decoded(source: ParquetSource, part: Part, limits: Limits, _: int) -> Iterator[Rows]:
    yield from batched(WHOLE, 1, _rows(source, part, limits))


def _rows(source: ParquetSource, part: Part, limits: Limits) -> Iterator[Row]:
    with open_stream(part) as stream:
        names, rows = table_of(stream, part.file.name, {source.text_field}, limits.bytes)
        places = _places(names, source, part.file.path)
        for line, row in rows:
            place = {"url": "", "line": line}
            if isinstance(row, str):
                yield failed_row(place, row, "failure/csv")
            else:
                found = {name: row[at] if at < len(row) else None for name, at in places.items()}
                yield finished_row(source, found, place, limits.bytes)


def table_of(
    stream: Stream, name: str, wanted: Collection[str], most: int
) -> tuple[list[str], Iterator[tuple[int, list[str] | str]]]:
    """The names of the columns, and the line that each row begins on with its fields, or what is wrong with it.

    Args:
        name: that of the file.
        wanted: columns of which one should be among the names.
        most: bytes of a row.

    Raises:
        Damaged: the file breaks off, or has no line of names.
    """
    csv.field_size_limit(most)
    stream.recode(_encoding(stream.sample(SAMPLE)))
    sample = stream.sample(SAMPLE).decode("utf-8-sig", "replace")
    is_escaped = _ESCAPED.search(sample) is not None and not _DOUBLED.search(sample)
    lines = _Lines(stream, most, is_escaped=is_escaped)
    head = next(filter(_is_head, lines), "")
    dialect = _dialect_of(name, head, sample, wanted)
    rows = csv.reader(chain(head.splitlines(keepends=True) if _ends_in_cr(head) else [head], lines), **dialect)
    try:
        names = [name.strip() for name in next(filter(None, rows), [])]
    except csv.Error as error:
        raise Damaged("line 1", f"no line of names ({error})") from None
    return names, _below(rows, lines, len(names), is_quoted=dialect["quoting"] != csv.QUOTE_NONE)


def _below(rows: Any, lines: _Lines, columns: int, *, is_quoted: bool) -> Iterator[tuple[int, list[str] | str]]:
    """The rows below the names."""
    while True:
        lines.begin()
        line = rows.line_num + 1
        try:
            row = next(filter(None, rows), None)  # empty lines are none
        except csv.Error as error:
            yield line, str(error)
            continue
        if row is None:
            return
        if is_quoted and lines.is_open:
            raise Damaged(f"line {line}", "truncated: a field in quotes does not end")
        is_longer = any(row[columns:])
        yield line, f"{len(row)} fields, and {columns} names of columns" if is_longer else row


def _encoding(sample: bytes) -> str:
    """The encoding of a file that begins so, by the name of Python's codec; '' for UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
        return ""
    except UnicodeDecodeError:
        pass
    try:
        name = decode(sample)[1]
    except NotText:
        return ""
    return "" if name.startswith("utf-") else codec_of(name)


def _has_quoted_fields(sample: str) -> bool:
    """Whether quotes stand around fields of a table with tabs, and are not characters of theirs."""
    lines = sample.split("\n")[:-1]
    fields = [field for line in lines for field in line.rstrip("\r").split("\t") if field.startswith('"')]
    return len({line.count("\t") for line in lines}) > 1 or all(map(_QUOTED.fullmatch, fields))


def _ends_in_cr(head: str) -> bool:
    """Whether lines end so: all of them are one then."""
    return "\r" in head and not head.endswith("\n")


def _is_head(line: str) -> bool:
    """Whether a line may be the one of the names: what stands before that is empty, or says what parts the columns."""
    return bool(line.strip()) and not _SEPARATOR.match(line)


def _dialect_of(file: str, head: str, sample: str, wanted: Collection[str]) -> dict[str, Any]:
    """How a table is written, as options of `csv.reader`.

    Args:
        file: its name.
        head: the line of the names.
        sample: text from its beginning.
        wanted: columns of which one should be among the names.
    """
    sign = _delimiter(head, "\t,;|" if ".tsv" in file.lower() else ",;\t|", set(wanted))
    is_quoted = sign != "\t" or _has_quoted_fields(sample)
    return {
        "delimiter": sign,
        "quoting": csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
        "skipinitialspace": _SPACED.search(head) is not None,
    }


def _delimiter(head: str, signs: str, wanted: set[str]) -> str:
    """What stands between the names of the columns, so that one that is wanted is among them."""
    if _names(head, _NONE) & wanted:
        return _NONE
    return next((sign for sign in signs if _names(head, sign) & wanted), signs[0])


def _names(head: str, sign: str) -> set[str]:
    return {name.strip('\ufeff" \r\n') for name in head.split(sign)}


def _places(names: list[str], source: ParquetSource, path: str) -> dict[str, int]:
    """Where in a row the columns are that the source wants."""
    if source.text_field not in names:
        columns = ", ".join(names[:20]) or "none"
        raise UserError(f"{path}: no column {source.text_field} among {columns}; set the source's text_field")
    wanted = {source.text_field, source.url_field, *source.metadata_fields}
    for name in sorted(wanted):
        if (count := names.count(name)) > 1:
            raise UserError(f"{path}: {count} columns are named {name}; give all but one another name")
    return {name: at for at, name in enumerate(names) if name in wanted}


class _Lines:
    """Lines; of a giant one as much as the parser needs to refuse it, and no more of a row than a few records hold.

    Bytes that are not UTF-8 become halves of surrogate pairs, which the text that holds them is rejected for.
    """

    def __init__(self, stream: Stream, most: int, *, is_escaped: bool) -> None:
        self._stream, self._most, self._room, self._is_escaped = stream, most, 0, is_escaped
        self._quotes, self._has_ended = 0, False
        self.begin()

    def begin(self) -> None:
        """A row begins."""
        self._room, self._quotes = MOST_OF_A_ROW * self._most, 0

    @property
    def is_open(self) -> bool:
        """Whether the file has ended within quotes."""
        return self._has_ended and self._quotes % 2 == 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._room < 0:
            raise csv.Error("row larger than extract.max_record_bytes allows")
        most = 2 * self._most
        line = self._stream.readline(most)
        if not line:
            self._has_ended = True
            raise StopIteration
        if self._is_escaped:
            line = _BACKSLASHED.sub(rb'\1""', line)
        self._quotes += line.count(b'"')
        self._room -= len(line)
        rest = line
        while len(rest) == most and not rest.endswith(b"\n"):
            rest = self._stream.readline(most)
        return line.decode("utf-8-sig", "surrogateescape")
