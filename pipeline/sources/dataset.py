"""Data sets in folders as the Hugging Face Hub and `save_to_disk` lay them out.

Which files belong to a split is found as `datasets` finds it: by the `configs` in the README's head; by the
`state.json` of a saved data set; by the split's name in the names of files and folders; and where no name tells, all
files are `train`.
"""

from __future__ import annotations

import csv
import fnmatch
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import yaml

from infra.errors import UserError
from infra.storage import ExternalFile, open_file, open_seekable
from pipeline.sections import DatasetSource, JsonlSource, ParquetSource
from pipeline.sources import jsonl, parquet
from pipeline.sources.broken import is_of_the_file
from pipeline.sources.stream import Damaged, Found, Limits, Part, Stream, open_stream
from pipeline.tasks.documents import Document

__all__ = ["choose", "parts", "read"]

_FORMAT = re.compile(r"\.(parquet|arrow|jsonl|json|csv|tsv)(?:\.(?:gz|bz2|xz|zst))?$")
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Names that `datasets` takes for a split."""
MOST_OF_A_ROW = 4
"""Times the bytes of a record that a row of CSV may have with all its fields."""


def choose(source: DatasetSource, files: list[ExternalFile]) -> list[ExternalFile]:
    """The files of the split.

    Raises:
        UserError: there is no such split or configuration.
    """
    data = [file for file in files if _FORMAT.search(file.name)]
    readme = next((file for file in files if file.name == "README.md"), None)
    patterns = _patterns(source, readme) if readme else None
    states = [file for file in files if file.name.rpartition("/")[2] == "state.json"]
    if patterns is not None:
        chosen = [file for file in data if any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns)]
    elif states:
        chosen = _saved(source, states, data)
    else:
        below = [file for file in data if file.name.startswith(f"{source.config}/")] if source.config else data
        by_split = {split: [file for file in below if _is_of(file.name, split)] for split in (*_SPLITS, source.split)}
        chosen = by_split[source.split]
        if source.split == "train" and not any(by_split.values()):
            chosen = below
    if not chosen:
        names = ", ".join(file.name for file in data[:5]) or "none that is Parquet, Arrow, JSON lines or CSV"
        where = ", ".join(source.paths)
        raise UserError(
            f"{where}: no file of the split {source.split} (files: {names}); set the source's split or config"
        )
    return chosen


def _patterns(source: DatasetSource, readme: ExternalFile) -> list[str] | None:
    """What the README says are the files of the split; None if it says nothing."""
    with open_file(readme) as stream:
        text = stream.read(1 << 20).decode("utf-8", "replace")
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    try:
        configs = (yaml.safe_load(head[1]) or {}).get("configs") if head else None
    except (yaml.YAMLError, AttributeError, RecursionError):
        configs = None
    if not configs:
        return None
    names = [config.get("config_name", "default") for config in configs]
    wanted = source.config or next((each["config_name"] for each in configs if each.get("default")), names[0])
    if wanted not in names:
        raise UserError(f"{readme.path}: no configuration {wanted} among {', '.join(names)}; set the source's config")
    found = configs[names.index(wanted)].get("data_files")
    if found is None:
        return None
    entries = found if isinstance(found, list) else [found]
    patterns: list[str] = []
    for entry in entries:
        split, path = (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else ("train", entry)
        if split == source.split:
            patterns += map(str, path if isinstance(path, list) else [path])
    return [pattern.replace("**/", "*") for pattern in patterns]


def _saved(source: DatasetSource, states: list[ExternalFile], data: list[ExternalFile]) -> list[ExternalFile]:
    folders = {state.name.rpartition("/")[0]: state for state in states}
    state = folders.get(source.split) or (folders.get("") if source.split == "train" else None)
    if state is None:
        return []
    with open_file(state) as stream:
        content = json.loads(stream.read())
    folder = state.name.rpartition("/")[0]
    names = [f"{folder}/{each['filename']}".lstrip("/") for each in content.get("_data_files", [])]
    return [file for name in names for file in data if file.name == name]


def _is_of(name: str, split: str) -> bool:
    words = "|".join(map(re.escape, _SPLITS.get(split, (split,))))
    return re.search(rf"(?:^|[^a-zA-Z0-9])(?:{words})(?:[^a-zA-Z0-9]|$)", name) is not None


def _format(file: ExternalFile) -> str:
    found = _FORMAT.search(file.name)
    assert found, "chosen by its format"
    return {"json": "jsonl"}.get(found[1], found[1])


def parts(source: DatasetSource, file: ExternalFile, size: int) -> list[Part]:
    """`file` in parts of about `size` bytes, where its format has them."""
    match _format(file):
        case "jsonl":
            return jsonl.parts(_as(JsonlSource, source), file, size)
        case "parquet":
            return parquet.parts(_as(ParquetSource, source), file, size)
    return [Part(file)]


def read(source: DatasetSource, part: Part, limits: Limits) -> Iterator[Found]:
    """A document per row.

    Raises:
        Damaged: the file breaks off.
        UserError: there is no text column.
    """
    match _format(part.file):
        case "jsonl":
            yield from jsonl.read(_as(JsonlSource, source), part, limits)
        case "parquet":
            yield from parquet.read(_as(ParquetSource, source), part, limits)
        case "arrow":
            yield from _numbered(source, _arrow(part, source.text_field), limits)
        case format_:
            yield from _csv(source, part, limits, "\t" if format_ == "tsv" else ",")


def _as(kind: type[Any], source: DatasetSource) -> Any:
    return kind(**{name: getattr(source, name) for name in kind.model_fields if name != "kind"})


def _numbered(source: DatasetSource, rows: Iterable[dict[str, Any] | None], limits: Limits) -> Iterator[Found]:
    options = _as(ParquetSource, source)
    for number, row in enumerate(rows, 1):
        if row is None:
            problem = {"url": "", "row": number, "failure": "a column is not UTF-8"}
            yield Document(text="", id="", metadata=problem), "failure/encoding"
            continue
        found, rule = jsonl.from_row(options, row, {"url": "", "row": number})
        if len(found.text.encode("utf-8", "replace")) > limits.bytes:
            found, rule = Document(text="", id="", metadata={"url": "", "row": number}), "too_large"
        yield found, rule


def _arrow(part: Part, text: str) -> Iterator[dict[str, Any] | None]:
    """The rows of a file; None for one whose strings are not UTF-8."""
    with open_seekable(part.file) as stream:
        try:
            is_file = stream.read(6) == b"ARROW1"
            stream.seek(0)
            if is_file:
                reader = pa.ipc.open_file(stream)
                batches: Iterable[Any] = (reader.get_batch(number) for number in range(reader.num_record_batches))
            else:
                batches = pa.ipc.open_stream(stream)
            for batch in batches:
                _check(batch)
                for start in range(0, batch.num_rows, 256):
                    rows = batch.slice(start, 256)
                    yield from parquet.rows_of(rows, text) if text in batch.schema.names else rows.to_pylist()
        except (pa.ArrowException, OSError) as error:
            if not is_of_the_file(error):
                raise
            raise Damaged("rows", f"not a whole Arrow file ({error})") from None


def _check(batch: Any) -> None:
    """Raise an ArrowInvalid where offsets point out of the batch: Arrow trusts them, and would read there.

    Strings are looked at as bytes: those that are not UTF-8 cost their own row.
    """
    columns = [
        column.cast(pa.binary() if pa.types.is_string(column.type) else pa.large_binary())
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        else column
        for column in batch.columns
    ]
    for column in columns:
        column.validate(full=True)


def _csv(source: DatasetSource, part: Part, limits: Limits, delimiter: str) -> Iterator[Found]:
    csv.field_size_limit(limits.bytes)
    options = _as(JsonlSource, source)
    with open_stream(part) as stream:
        lines = _Lines(stream, limits.bytes)
        rows = csv.reader(lines, delimiter=delimiter)
        try:
            names = next(filter(None, rows), [])
        except csv.Error as error:
            raise Damaged("line 1", f"no line of names ({error})") from None
        if source.text_field not in names:
            columns = ", ".join(names[:20]) or "none"
            raise UserError(
                f"{part.file.path}: no column {source.text_field} among {columns}; set the source's text_field"
            )
        wanted = {source.text_field, source.url_field, *source.metadata_fields}
        places = {name: at for at, name in enumerate(names) if name in wanted}
        while True:
            lines.begin()
            place = {"url": "", "line": rows.line_num + 1}
            try:
                row = next(filter(None, rows), None)  # empty lines are none
            except csv.Error as error:
                yield Document(text="", id="", metadata=place | {"failure": str(error)}), "failure/csv"
                continue
            if row is None:
                return
            found = {name: row[at] if at < len(row) else None for name, at in places.items()}
            yield jsonl.from_row(options, found, place)


class _Lines:
    """Lines; of a giant one as much as the parser needs to refuse it, and no more of a row than a few records hold."""

    def __init__(self, stream: Stream, most: int) -> None:
        self._stream, self._most, self._room = stream, most, 0
        self.begin()

    def begin(self) -> None:
        """A row begins."""
        self._room = MOST_OF_A_ROW * self._most

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._room < 0:
            raise csv.Error("row larger than extract.max_record_bytes allows")
        most = 2 * self._most
        line = self._stream.readline(most)
        if not line:
            raise StopIteration
        self._room -= len(line)
        rest = line
        while len(rest) == most and not rest.endswith(b"\n"):
            rest = self._stream.readline(most)
        return line.decode("utf-8-sig", "replace")
