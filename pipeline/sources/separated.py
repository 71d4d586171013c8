"""Documents from CSV and TSV files, a row each; the first line names the columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain

from infra.errors import UserError
from pipeline.sections import ParquetSource
from pipeline.sources.stream import Damaged, Found, Limits, Part, Stream, open_stream
from pipeline.sources.tables import WHOLE, Row, Rows, batched, failed_row, finished_row, found_rows

__all__ = ["read"]

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
    csv.field_size_limit(limits.bytes)
    with open_stream(part) as stream:
        stream.recode()
        lines = _Lines(stream, limits.bytes)
        head = next((line for line in lines if line.strip()), "")
        signs = "\t" if ".tsv" in part.file.name.lower() else ",;\t|"
        rows = csv.reader(chain([head], lines), delimiter=_delimiter(head, signs, source.text_field))
        try:
            names = next(filter(None, rows), [])
        except csv.Error as error:
            raise Damaged("line 1", f"no line of names ({error})") from None
        places = _places(names, source, part.file.path)
        while True:
            lines.begin()
            place = {"url": "", "line": rows.line_num + 1}
            try:
                row = next(filter(None, rows), None)  # empty lines are none
            except csv.Error as error:
                yield failed_row(place, str(error), "failure/csv")
                continue
            if row is None:
                return
            if lines.is_open:
                raise Damaged(f"line {place['line']}", "truncated: a field in quotes does not end")
            found = {name: row[at] if at < len(row) else None for name, at in places.items()}
            yield finished_row(source, found, place, limits.bytes)


def _delimiter(head: str, signs: str, wanted: str) -> str:
    """What stands between the names of the columns, so that the one that is wanted is among them."""
    named = (sign for sign in signs if wanted in {name.strip('" \r\n') for name in head.split(sign)})
    return next(named, signs[0])


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

    def __init__(self, stream: Stream, most: int) -> None:
        self._stream, self._most, self._room = stream, most, 0
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
        self._quotes += line.count(b'"')
        self._room -= len(line)
        rest = line
        while len(rest) == most and not rest.endswith(b"\n"):
            rest = self._stream.readline(most)
        return line.decode("utf-8-sig", "surrogateescape")
