"""Rows out of Arrow's record batches: columns by name, by the path of a name within a column, whatever holds text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import UserError
from pipeline.sections import ParquetSource
from pipeline.sources.tables import Row, failed_row, finished_row

__all__ = ["NO_VALUE", "Paths", "paths_of", "rows_of", "value_of"]

Paths = dict[str, tuple[str, ...]]
"""Of each name that a recipe has for a column: the column, and the fields within."""
_NOT_UTF8 = object()
NO_VALUE = (ValueError, OverflowError, KeyError, pa.ArrowException)
"""What is raised where Python has no value for Arrow's: dates after the year 9999, time zones that nobody knows."""
_IS_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
_IS_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, *_IS_BYTES)


def paths_of(schema: Any, source: ParquetSource, file: str) -> Paths:
    """The columns that a source wants, of those there are; `a.b` is column `a.b`, or else field `b` of column `a`.

    Raises:
        UserError: there is no text column, or one that is wanted is there twice.
    """
    paths = {}
    for name in (source.text_field, source.url_field, *source.metadata_fields):
        if path := _path(schema, name):
            paths[name] = path
    if source.text_field not in paths:
        listed = ", ".join(schema.names)
        raise UserError(f"{file}: no column {source.text_field} among {listed}; set the source's text_field")
    for path in paths.values():
        if (count := schema.names.count(path[0])) > 1:
            raise UserError(
                f"{file}: {count} columns are named {path[0]}; give all but one another name, or leave them out"
            )
    return paths


def _path(schema: Any, name: str) -> tuple[str, ...]:
    if name in schema.names:
        return (name,)
    column, _, rest = name.partition(".")
    if not rest or schema.names.count(column) != 1:
        return ()
    path, kind = [column], schema.field(column).type
    for step in rest.split("."):
        if not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
            return ()
        path.append(step)
        kind = kind.field(step).type
    return tuple(path)


def rows_of(batch: Any, paths: Paths, source: ParquetSource, first: int, most: int) -> Iterator[Row]:
    """The rows of a batch whose first is row `first`; of a text with more than `most` bytes nothing is made."""
    texts = _column(batch, paths[source.text_field])
    sizes = _sizes(texts)
    is_large = bool(sizes) and max(size or 0 for size in sizes) > most
    names = [name for name in paths if name != source.text_field or not is_large]
    values = [_values(_column(batch, paths[name]), is_text=name == source.text_field) for name in names]
    for number, row in enumerate(zip(*values, strict=True) if values else [()] * batch.num_rows):
        place = {"url": "", "row": first + number}
        named = dict(zip(names, row, strict=True))
        if is_large:
            if (sizes[number] or 0) > most:
                yield "", place, "too_large"
                continue
            named[source.text_field] = _text(texts[number])
        if named[source.text_field] is _NOT_UTF8:
            yield failed_row(place, f"{source.text_field} is not UTF-8")
        else:
            yield finished_row(source, named, place, most)


def _column(batch: Any, path: tuple[str, ...]) -> Any:
    column = batch.column(path[0])
    for step in path[1:]:
        column = pc.struct_field(column, step)
    return column


def _sizes(column: Any) -> list[int | None]:
    """Bytes of each text; nothing where the column holds none."""
    if pa.types.is_dictionary(column.type):
        sizes = _sizes(column.dictionary)
        return [None if at is None else sizes[at] for at in column.indices.to_pylist()] if sizes else []
    if not any(is_text(column.type) for is_text in _IS_TEXT):
        return []
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        column = column.cast(pa.large_binary())
    return list(pc.binary_length(column).to_pylist())


def _values(column: Any, *, is_text: bool) -> list[Any]:
    """What a column holds; a text that is not UTF-8 has a mark in its place, and nothing else costs a row its text."""
    of_one = _text if is_text else value_of
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if any(is_bytes(kind) for is_bytes in _IS_BYTES):
        return [of_one(each) for each in column]
    try:
        return list(column.to_pylist())
    except NO_VALUE:
        return [of_one(each) for each in column]


def _text(scalar: Any) -> Any:
    """The text of a scalar, bytes as the text that they are in UTF-8."""
    try:
        value = scalar.as_py()
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return _NOT_UTF8
    except NO_VALUE:
        return value_of(scalar)


def value_of(scalar: Any) -> Any:
    """What a scalar holds, or as much as Python has of it: bytes that are no text in hexadecimal digits, a time beyond
    those of Python as Arrow writes it."""
    try:
        value = scalar.as_py()
        if isinstance(value, bytes):
            return _printable(value)
        return value
    except UnicodeDecodeError:
        is_string = hasattr(scalar, "as_buffer")
        return scalar.as_buffer().to_pybytes().decode("utf-8", "backslashreplace") if is_string else None
    except NO_VALUE:
        try:
            return scalar.cast(pa.string()).as_py()
        except pa.ArrowException:
            return None


def _printable(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
