"""The records of the user's files: JSON lines, arrays, Parquet, Arrow or CSV, compressed or not.

Of a folder or a glob the files that are called otherwise, such as a README, are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.errors import UserError
from infra.storage import ExternalFile, resolve
from pipeline.reasoning.unread import Unread
from pipeline.sources.dataset import format_of
from pipeline.sources.jsonl import DAMAGED, ENCODING, Failure
from pipeline.sources.passed_over import beside
from pipeline.sources.records import records_of
from pipeline.sources.stream import Damaged, Limits

__all__ = ["keys_of", "read_records"]

_FIRST = ("jsonl", "parquet")
"""Formats of which a folder is read before others, which may be the same records again."""
_COLUMNS = frozenset({"question", "problem", "prompt", "messages", "conversations", "instruction"})
_WHY = {"failure/json": "no JSON", ENCODING: "not UTF-8", "too_large": f"larger than {Limits.bytes // 10**6} MB"}


def read_records(paths: Sequence[str], listed: Collection[str] = ()) -> Iterator[tuple[str, int, Any]]:
    """File name, record number and record: what its JSON holds, or `Unread`.

    Args:
        listed: keys of what a record may be a list of, as messages without a key are.

    Raises:
        UserError: a path names nothing or no data, a file is damaged.
    """
    for file in sorted(_files(paths), key=lambda file: file.name):
        try:
            for number, record in records_of(file, _COLUMNS, listed=listed):
                if not isinstance(record, Failure):
                    yield file.name, number, record
                elif record.rule == DAMAGED:
                    raise Damaged("a part of it", record.problem)
                else:
                    yield file.name, number, Unread(record.text, _WHY.get(record.rule, record.problem))
        except Damaged as damage:
            raise UserError(f"{file.name}: {damage}; {damage.remedy}") from None


def keys_of(record: Any) -> str:
    """What an object has, to be said beside what it lacks."""
    return f" (it has {', '.join(map(str, record))[:100]})" if isinstance(record, Mapping) and record else ""


def _files(paths: Sequence[str]) -> list[ExternalFile]:
    """Each file once; of a folder or a glob those that are data by their names."""
    found: dict[str, ExternalFile] = {}
    for path in paths:
        files = resolve([path])
        if len(files) > 1 or not _is_named_by(path, files[0]):
            data = [file for file in files if format_of(file) and not beside(file.name)]
            if not data:
                names = ", ".join(file.name for file in files[:3])
                raise UserError(
                    f"{path}: no file of JSON, Parquet, Arrow or CSV in it, but {names}; name the files themselves"
                )
            files = [file for file in data if format_of(file) in _FIRST] or data
        found |= {file.path: file for file in files}
    return list(found.values())


def _is_named_by(path: str, file: ExternalFile) -> bool:
    return file.path in (path, str(Path(path).expanduser().absolute()))
