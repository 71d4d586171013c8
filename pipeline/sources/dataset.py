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

__all__ = ["FORMAT", "SPLITS", "choose", "format_of", "is_of", "parts", "read"]

FORMAT = re.compile(r"\.(parquet|pq|arrow|feather|jsonl|ndjson|json|csv|tsv)(?:\.(?:gz|bz2|xz|zst))?$", re.IGNORECASE)
_NAMES = {"json": "jsonl", "ndjson": "jsonl", "pq": "parquet", "feather": "arrow"}
"""Endings that are other names of a format."""
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
    if not (configs := _configs(text)):
        return None
    names = [str(config.get("config_name", "default")) for config in configs]
    wanted = source.config or next((name for name, each in zip(names, configs, strict=True) if each.get("default")), "")
    if wanted and wanted not in names:
        raise UserError(f"{readme.path}: no configuration {wanted} among {', '.join(names)}; set the source's config")
    config = configs[names.index(wanted) if wanted else 0]
    folder = str(config.get("data_dir") or "").strip("/")
    below = f"{folder}/" if folder else ""
    found = config.get("data_files")
    if found is None:
        return [f"{below}*"] if folder else None
    entries = found if isinstance(found, list) else [found]
    patterns: list[str] = []
    for entry in entries:
        split, path = (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else ("train", entry)
        if split == source.split:
            patterns += map(str, path if isinstance(path, list) else [path])
    return [below + pattern.removeprefix("./").replace("**/", "*") for pattern in patterns]


def _configs(readme: str) -> list[dict[str, Any]]:
    """The configurations that the head of a README names."""
    head = re.match(r"\ufeff?---\r?\n(.*?)\r?\n---", readme, re.DOTALL)
    try:
        configs = (yaml.safe_load(head[1]) or {}).get("configs") if head else None
    except (yaml.YAMLError, AttributeError, RecursionError):
        return []
    return [each for each in configs if isinstance(each, dict)] if isinstance(configs, list) else []


def _saved(source: DatasetSource, states: list[ExternalFile], data: list[ExternalFile]) -> list[ExternalFile]:
    folders = {state.name.rpartition("/")[0]: state for state in states}
    state = folders.get(source.split) or (folders.get("") if source.split == "train" else None)
    if state is None:
        return []
    folder = state.name.rpartition("/")[0]
    try:
        with open_file(state) as stream:
            content = json.loads(stream.read())
        names = [f"{folder}/{each['filename']}".lstrip("/") for each in content.get("_data_files", [])]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{state.path}: not as save_to_disk writes it ({error}); save the data set again") from None
    return [file for name in names for file in data if file.name == name]


def is_of(name: str, split: str) -> bool:
    """Whether the name of a file or of its folder says that it is of a split."""
    words = "|".join(map(re.escape, SPLITS.get(split, (split,))))
    return re.search(rf"(?:^|[^a-z])(?:{words})(?:[^a-z]|$)", name, re.IGNORECASE) is not None


def format_of(file: ExternalFile) -> str:
    """Parquet, Arrow, JSON lines (`jsonl`), CSV or TSV, by the end of a file's name; '' for any other."""
    found = FORMAT.search(file.name)
    name = found[1].lower() if found else ""
    return _NAMES.get(name, name)


def parts(source: DatasetSource, file: ExternalFile, size: int) -> list[Part]:
    """`file` in parts of about `size` bytes, where its format has them."""
    match format_of(file):
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
    match format_of(part.file):
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
