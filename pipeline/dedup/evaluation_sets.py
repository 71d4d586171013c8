"""The texts of evaluation sets: JSON lines or arrays, Parquet, Arrow and CSV files, or folders as the Hub has them.

Of a folder whose files are named by split, those of the training split are left out.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra import events
from infra.errors import UserError
from infra.storage import ExternalFile, open_seekable, resolve
from pipeline.sources.dataset import FORMAT, SPLITS, is_of
from pipeline.sources.jsonl import field_of
from pipeline.sources.passed_over import without_beside
from pipeline.sources.stream import Damaged, Part, open_stream
from pipeline.tasks.guarded_reader import Broken, guarded_items

__all__ = ["read_texts", "set_files", "text_of_value"]

SECONDS = 60.0
"""Of processor time for each batch of rows."""
ROWS = 256
_SHARD = re.compile(r"-\d+-of-\d+$")
_WHERE = "decontaminate.evaluation_sets"


def set_files(paths: Sequence[str]) -> list[tuple[str, ExternalFile]]:
    """Name of the set and file, of every file that `paths` name.

    Raises:
        UserError: a path names nothing, or no data.
    """
    found = []
    for path in paths:
        files = resolve([path])
        if len(files) > 1 or not _is_file(path, files[0]):
            files = _data(path, files)
        found += [(_name(path, file), file) for file in files]
    return found


def _is_file(path: str, file: ExternalFile) -> bool:
    return file.path in (path, str(Path(path).expanduser().absolute()))


def _data(path: str, files: list[ExternalFile]) -> list[ExternalFile]:
    """The files of a folder that are data, and not of its training split."""
    files = [file for file in without_beside(_WHERE, [path], files) if FORMAT.search(file.name)]
    if not files:
        raise UserError(f"{path}: no file of Parquet, Arrow, JSON lines or CSV in it; correct {_WHERE}")
    others = [split for split in SPLITS if split != "train"]
    held = [file for file in files if any(is_of(file.name, split) for split in others)]
    train = [file for file in files if file not in held and is_of(file.name, "train")]
    if held and train:
        names = ", ".join(file.name for file in train[:3])
        events.note(
            f"{path}: the training split is no evaluation set, and left out ({names}); name its files to have it"
        )
        return [file for file in files if file not in train]
    return files


def _name(path: str, file: ExternalFile) -> str:
    """What the set is called: by its file, or by its folder where the file is called after a split."""
    stem = _SHARD.sub("", PurePosixPath(file.name).name.partition(".")[0])
    is_split = any(stem in names for names in SPLITS.values())
    folder = PurePosixPath(path.rstrip("/")).name if is_split and not _is_file(path, file) else ""
    return f"{folder}/{stem}" if folder and not any(sign in folder for sign in "*?[") else stem


def read_texts(file: ExternalFile, fields: Sequence[str]) -> Iterator[str]:
    """The text of each record.

    Raises:
        UserError: the file cannot be read, or a record has no text in any of `fields`.
    """
    for number, row in enumerate(_rows(file, tuple(fields)), 1):
        values = (field_of(row, field) for field in fields) if isinstance(row, dict) else ()
        value = next((value for value in values if value is not None), None)
        text = text_of_value(value)
        if text is None:
            wanted = ", ".join(fields)
            raise UserError(f"{file.path}: record {number}: not an object with the text in one of {wanted}")
        yield text


def text_of_value(value: Any) -> str | None:
    """A text; the contents of messages, but for the system's, which are no questions; several texts. Else None."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        if value.get("role", value.get("from")) == "system":
            return ""
        return text_of_value(next((value[key] for key in ("content", "value", "text") if value.get(key)), ""))
    if isinstance(value, list):
        texts = [text_of_value(each) for each in value]
        return None if None in texts or not texts else "\n".join(text for text in texts if text)
    return None


def _rows(file: ExternalFile, fields: tuple[str, ...]) -> Iterator[Any]:
    """The records of a file; None for a line that is no JSON."""
    found = FORMAT.search(file.name)
    kind = found[1] if found else "jsonl"
    try:
        if kind in ("parquet", "arrow"):
            for rows in guarded_items(_table_rows, (file, kind, fields), SECONDS):
                yield from rows
        elif kind in ("csv", "tsv"):
            with open_stream(Part(file)) as stream:
                lines = stream.read().decode("utf-8-sig").splitlines(keepends=True)
            yield from csv.DictReader(lines, delimiter="\t" if kind == "tsv" else ",")
        else:
            with open_stream(Part(file)) as stream:
                yield from _json_rows(stream.read())
    except (Damaged, Broken, pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file.path}: {error}; get the evaluation set again") from None


def _json_rows(content: bytes) -> Iterator[Any]:
    """The objects of JSON lines, or of one array."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.lstrip()[:1] == b"[":
        try:
            yield from json.loads(content)
            return
        except ValueError:
            pass  # its lines will tell
    for line in content.splitlines():
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                yield None


def _table_rows(file: ExternalFile, kind: str, fields: tuple[str, ...]) -> Iterator[list[dict[str, Any]]]:
    wanted = {field.partition(".")[0] for field in fields} | set(fields)
    with open_seekable(file) as raw:
        if kind == "parquet":
            table = pq.ParquetFile(raw)
            columns = [name for name in table.schema_arrow.names if name in wanted]
            batches: Any = table.iter_batches(ROWS, columns=columns)
        else:
            is_file = raw.read(6) == b"ARROW1"
            raw.seek(0)
            batches = pa.ipc.open_file(raw).read_all().to_batches() if is_file else pa.ipc.open_stream(raw)
        for batch in batches:
            batch.validate(full=True)
            for start in range(0, batch.num_rows, ROWS):
                rows = batch.slice(start, ROWS)
                yield [{name: row[name] for name in row if name in wanted} for row in rows.to_pylist()]
