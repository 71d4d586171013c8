"""Data sets in folders as the Hugging Face Hub and `save_to_disk` lay them out.

Which files belong to a split is found as `datasets` finds it: by the `configs` in the README's head; by the
`state.json` of a saved data set; by the split's name in the names of files and folders; and where no name tells, all
files are `train`.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from infra.errors import UserError
from infra.storage import ExternalFile, open_file
from pipeline.sections import DatasetSource, JsonlSource, ParquetSource
from pipeline.sources import arrow, jsonl, parquet, separated
from pipeline.sources.passed_over import beside
from pipeline.sources.stream import Found, Limits, Part

__all__ = ["FORMAT", "SPLITS", "choose", "is_of", "parts", "read"]

FORMAT = re.compile(r"\.(parquet|arrow|jsonl|json|csv|tsv)(?:\.(?:gz|bz2|xz|zst))?$")
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Names that `datasets` takes for a split."""


def choose(source: DatasetSource, files: list[ExternalFile]) -> list[ExternalFile]:
    """The files of the split.

    Raises:
        UserError: there is no such split or configuration.
    """
    data = [file for file in files if FORMAT.search(file.name) and not beside(file.name)]
    readme = next((file for file in files if file.name == "README.md"), None)
    patterns = _patterns(source, readme) if readme else None
    states = [file for file in files if file.name.rpartition("/")[2] == "state.json"]
    if patterns is not None:
        chosen = [file for file in data if any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns)]
    elif states:
        chosen = _saved(source, states, data)
    else:
        below = [file for file in data if file.name.startswith(f"{source.config}/")] if source.config else data
        by_split = {split: [file for file in below if is_of(file.name, split)] for split in (*SPLITS, source.split)}
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


def is_of(name: str, split: str) -> bool:
    """Whether the name of a file or of its folder says that it is of a split."""
    words = "|".join(map(re.escape, SPLITS.get(split, (split,))))
    return re.search(rf"(?:^|[^a-zA-Z0-9])(?:{words})(?:[^a-zA-Z0-9]|$)", name) is not None


def _format(file: ExternalFile) -> str:
    found = FORMAT.search(file.name)
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
            yield from arrow.read(_as(ParquetSource, source), part, limits)
        case _:
            yield from separated.read(_as(ParquetSource, source), part, limits)


def _as(kind: type[Any], source: DatasetSource) -> Any:
    return kind(**{name: getattr(source, name) for name in kind.model_fields if name != "kind"})
