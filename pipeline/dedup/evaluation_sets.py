"""The texts of evaluation sets: JSON lines or arrays, Parquet, Arrow and CSV files, or folders as the Hub has them.

Of a folder whose files are named by split, those of the training split are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

from infra import events
from infra.errors import UserError
from infra.storage import ExternalFile, resolve
from pipeline.sources.dataset import FORMAT, SPLITS, is_of
from pipeline.sources.jsonl import Failure, field_of
from pipeline.sources.passed_over import without_beside
from pipeline.sources.records import records_of
from pipeline.sources.stream import Damaged

__all__ = ["read_texts", "set_files"]

_NO_QUESTION = ("system", "developer")
"""Whose messages are no questions."""
_OF_A_MESSAGE = frozenset({"role", "from", "type", "content", "value", "text"})
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


def read_texts(file: ExternalFile, fields: Sequence[str], *, may_be_empty: bool = False) -> Iterator[str]:
    """The text of each record; nothing of one whose text is null.

    Raises:
        UserError: the file cannot be read, has no record, or a record has no text in any of `fields`.
    """
    found = 0
    for number, row in enumerate(_rows(file, tuple(fields)), 1):
        values = [_value(row, field) for field in fields] if isinstance(row, dict) else []
        value = next((value for value in values if value is not None), None)
        is_null = value is None and isinstance(row, dict) and any(field in row for field in fields)
        text = "" if is_null else text_of_value(value)
        if text is None:
            there = f"; there is {', '.join(map(str, row))[:200]}" if isinstance(row, dict) else ""
            wanted = ", ".join(fields)
            raise UserError(f"{file.path}: record {number}: not an object with the text in one of {wanted}{there}")
        found += 1
        yield text
    if not found and not may_be_empty:
        raise UserError(f"{file.path}: no record in it (a table needs a line of names); leave it out, or correct it")


def _value(row: Any, field: str) -> Any:
    """The value under a key or path, which leads through lists as well: `paragraphs.qas.question`."""
    value = field_of(row, field)
    if value is not None or "." not in field:
        return value
    key, _, rest = field.partition(".")
    inner = row.get(key)
    if isinstance(inner, dict):
        return _value(inner, rest)
    values = [_value(each, rest) for each in inner if isinstance(each, dict)] if isinstance(inner, list) else []
    return [value for value in values if value is not None] or None


def text_of_value(value: Any) -> str | None:
    """A text; the contents of messages, but for the system's, which are no questions; several texts. Else None."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        if value.get("role", value.get("from")) in _NO_QUESTION:
            return ""
        if value.keys().isdisjoint(_OF_A_MESSAGE):
            return None
        return text_of_value(next((value[key] for key in ("content", "value", "text") if value.get(key)), ""))
    if isinstance(value, list):
        texts = [text_of_value(each) for each in value]
        return None if None in texts else "\n".join(text for text in texts if text)
    return None


def _rows(file: ExternalFile, fields: tuple[str, ...]) -> Iterator[Any]:
    """The records of a file; None for what is none."""
    wanted = {field.partition(".")[0] for field in fields} | set(fields)
    try:
        found = records_of(file, wanted, is_all=False)
        rows = (None if isinstance(row, Failure) else row for _, row in found)
        first = list(islice(rows, 2))
        yield from _unwrapped(first[0], fields) if len(first) == 1 else chain(first, rows)
    except Damaged as damage:
        raise UserError(f"{file.path}: {damage}; {damage.remedy}") from None


def _unwrapped(value: Any, fields: tuple[str, ...]) -> list[Any]:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return [value]
    if any(_value(value, field) is not None or field in value for field in fields):
        return [value]
    held = [each for each in value.values() if isinstance(each, list) and all(isinstance(row, dict) for row in each)]
    if len(held) == 1:
        return held[0]
    return list(value.values()) if value and all(isinstance(each, dict) for each in value.values()) else [value]
