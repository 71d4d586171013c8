"""The records of the user's files: JSON lines, one JSON array, or Parquet, compressed or not.

Of a folder or a glob the files that are called otherwise, such as a README, are left out.
"""

from __future__ import annotations

import bz2
import codecs
import datetime
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

from backports import zstd

from infra.errors import UserError
from infra.storage import ExternalFile, open_file, open_seekable, resolve

__all__ = ["Unread", "keys_of", "read_records"]

_DATA = re.compile(r"\.(?:jsonl|ndjson|json|parquet)(?:\.(?:gz|bz2|xz|zst))?$", re.IGNORECASE)
_OPENERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": zstd.open
}  # fmt: skip
_DECODER_ERRORS = (EOFError, OSError, lzma.LZMAError, zlib.error, zstd.ZstdError)
_HOLDERS = ("data", "rows", "records", "examples", "train")
"""Keys of one object that holds all records."""
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


_NOT_OF_JSON = re.compile("binary|decimal|date|time|duration|interval|uuid")
"""Parquet's types that JSON does not have, wherever they stand in a schema."""


class Unread(str):
    """The text of a record that is none."""

    why: str

    def __new__(cls, text: str, why: str = "no JSON") -> Unread:
        found = super().__new__(cls, text)
        found.why = why
        return found


def read_records(paths: Sequence[str]) -> Iterator[tuple[str, int, Any]]:
    """File name, record number and record: what its JSON holds, or `Unread`.

    Raises:
        UserError: a path names nothing or no data, a file is damaged.
    """
    for file in sorted(_files(paths), key=lambda file: file.name):
        records = _parquet(file) if file.name.endswith(".parquet") else _json(file)
        for number, record in records:
            yield file.name, number, record


def keys_of(record: Any) -> str:
    """What an object has, to be said beside what it lacks."""
    return f" (it has {', '.join(map(str, record))[:100]})" if isinstance(record, Mapping) and record else ""


def _files(paths: Sequence[str]) -> list[ExternalFile]:
    """Each file once; of a folder or a glob those that are data by their names."""
    found: dict[str, ExternalFile] = {}
    for path in paths:
        files = resolve([path])
        if len(files) > 1 or not _is_named_by(path, files[0]):
            data = [file for file in files if _DATA.search(file.name)]
            if not data:
                names = ", ".join(file.name for file in files[:3])
                raise UserError(f"{path}: no JSONL and no Parquet file in it, but {names}; name the files themselves")
            files = data
        found |= {file.path: file for file in files}
    return list(found.values())


def _is_named_by(path: str, file: ExternalFile) -> bool:
    return file.path in (path, str(Path(path).expanduser().absolute()))


def _json(file: ExternalFile) -> Iterator[tuple[int, Any]]:
    opener = _OPENERS.get(Path(file.name).suffix.lower())
    try:
        with open_file(file) as raw, cast("IO[bytes]", opener(raw) if opener else raw) as handle:
            yield from _records(io.BufferedReader(cast(io.RawIOBase, handle)) if opener else handle)
    except _DECODER_ERRORS as error:
        if opener is None:
            raise
        raise UserError(f"{file.name}: damaged ({error or 'it ends too early'}); get the file again") from None


def _records(handle: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """Of an array its items, else a record to each line that is not blank."""
    first = handle.readline()
    if first.startswith(_UTF16):
        text = (first + handle.read()).decode("utf-16", errors="replace")
        first, handle = b"", io.BytesIO(text.encode("utf-8", errors="replace"))
    first = first.removeprefix(codecs.BOM_UTF8)
    if first.lstrip()[:1] == b"[" or first.strip() in (b"", b"{"):
        content = first + handle.read()
        if (items := _whole(content)) is not None:
            yield from enumerate(items, 1)
            return
        first, handle = b"", io.BytesIO(content)
    for number, line in enumerate(chain([first] if first else [], handle), 1):
        if line.strip():
            yield number, _record(line)


def _whole(content: bytes) -> list[Any] | None:
    """The records of a file that is one JSON array, or one object over several lines; None where it is neither."""
    if content.lstrip()[:1] not in (b"[", b"{"):
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    held = value if isinstance(value, list) else next(filter(None, map(value.get, _HOLDERS)), None)
    return held if isinstance(held, list) else [value]


def _record(line: bytes) -> Any:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return Unread(line.decode("utf-8", errors="replace"), "not UTF-8")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return Unread(text)


def _parquet(file: ExternalFile) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_seekable(file) as handle:
            number = 0
            table = pq.ParquetFile(pa.PythonFile(handle, mode="r"))
            has_others = _NOT_OF_JSON.search(str(table.schema_arrow)) is not None
            for batch in table.iter_batches(1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, _as_json(row) if has_others else row
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.name}: not a readable Parquet file ({error}); write it again") from None


def _as_json(value: Any) -> Any:
    """The same in the types of JSON: texts written as bytes, decimal numbers, dates and times as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, dict):
        return {key: _as_json(each) for key, each in value.items()}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list):
        return [_as_json(each) for each in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
