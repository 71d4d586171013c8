"""What lies in a folder, as sources of a recipe: kinds by name and first bytes, languages by reading a little.

For whoever brings a corpus: `deepmill new` writes a recipe out of it.
"""

from __future__ import annotations

import glob
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import UserError
from infra.storage import ExternalFile, files_below
from pipeline.clean.filters import LanguageRule
from pipeline.extract import peek
from pipeline.sections import ExtractConfig, Profile
from pipeline.sources.languages import language_of
from pipeline.sources.stream import Damaged, Part, open_stream

__all__ = ["FoundSource", "Inventory", "take_inventory"]

PACKED = (".gz", ".bz2", ".xz", ".zst")
KINDS = {
    "web": (".warc", ".wet"),
    "book": (".txt", ".epub", ".rtf", ".md", ".markdown", ".html", ".htm", ".rmd", ".qmd"),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet",),
    "subtitles": (".srt", ".vtt", ".ass", ".ssa", ".sbv", ".smi", ".ttml", ".dfxp", ".lrc"),
    "code": (".whl", ".tar", ".tgz", ".zip"),
    "model": (".gguf", ".safetensors"),
}
"""Kinds by the ends of names, once compression is off; code also by its languages, wikis by their first bytes."""
FIRST_BYTES = {b"<mediawiki": "wiki", b"WARC/": "web"}
"""What is in the beginning of files whose names do not tell."""
TEXT_FIELDS = ("text", "content", "body", "markdown", "raw_content", "code", "article", "document", "answer")
"""Columns that hold the text, the likeliest first."""
PROBLEM = {"question", "answer"}
"""Columns of a file of problems, which are for `reasoning.files` and no source."""
MOST_FILES = 200_000
DOCUMENTS = 24
"""Documents of a source that are read."""
SURE = 0.5
"""Probability of a language from which on it counts."""
NO_LANGUAGE = ("zxx", "und")
"""Codes of text that is in none, or nobody knows which (ISO 639-2)."""
TEXT_PER_BYTE = {"web": 0.07, "wiki": 0.6, "book": 1.0, "jsonl": 0.9, "parquet": 2.0, "subtitles": 0.5, "code": 0.8}
"""Characters of text in a byte of files, as rules of thumb: main content of crawls is a fifteenth of a `.warc.gz`."""
PACKED_TEXT = 3.0
"""Times as many where JSON lines or books are compressed."""
WHY = {
    "language": "in no programming language; unpack archives of other text",
    "too_large": "larger than extract.max_record_bytes",
    "too_short": "shorter than its min_characters",
}
"""Rules whose names say little about a first look."""
LEAST_SHARE = 0.1
"""Of the text, for a language to be named."""


@dataclass
class FoundSource:
    """Files of one kind below one folder."""

    kind: str
    folder: Path
    """In which they lie, at any depth."""
    endings: set[str] = field(default_factory=set)
    files: int = 0
    size: int = 0
    """Bytes, as they lie there."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keys of the source beside kind and paths."""
    languages: Counter[str] = field(default_factory=Counter)
    trouble: str = ""
    """Why it cannot be read."""

    @property
    def profile(self) -> str:
        """What its texts are, where it is not as the kind has it."""
        return str(self.options.get("profile", Profile.CODE.value if self.kind == "code" else ""))

    @property
    def characters(self) -> float:
        """Of text, by a rule of thumb."""
        packed = self.kind in ("jsonl", "book") and any(ending.endswith(PACKED) for ending in self.endings)
        return self.size * TEXT_PER_BYTE[self.kind] * (PACKED_TEXT if packed else 1.0)

    @property
    def paths(self) -> list[str]:
        return [f"{glob.escape(str(self.folder))}/**/*{glob.escape(ending)}" for ending in sorted(self.endings)]


@dataclass
class Inventory:
    """Everything below a folder."""

    sources: dict[str, FoundSource]
    """By the name that the recipe gives them."""
    problems: list[str]
    """Files of questions and answers."""
    conversations: list[str]
    """Files of conversations, for `conversations.files`."""
    models: list[Path]
    """Folders of Hugging Face models, and GGUF files."""
    passed_over: Counter[str]
    """Files of no kind that is read, by the end of their names."""

    @property
    def languages(self) -> list[str]:
        """Languages of a tenth of the text or more, the commonest first."""
        total: dict[str, float] = defaultdict(float)
        for source in self.sources.values():
            if source.profile != Profile.CODE:
                for code, documents in source.languages.items():
                    total[code] += source.characters * documents / source.languages.total()
        commonest = sorted(total, key=lambda code: -total[code])
        return [code for code in commonest if total[code] >= LEAST_SHARE * sum(total.values())]

    @property
    def characters(self) -> float:
        """Of text, about."""
        return sum(source.characters for source in self.sources.values() if not source.trouble)


def take_inventory(folder: Path) -> Inventory:
    """Look at `folder`: every name in it, the first documents of each source.

    Raises:
        UserError: there is no such folder, or nothing in it is read.
    """
    if not folder.is_dir():
        told = "a file; give the folder that it lies in" if folder.is_file() else None
        raise UserError(f"{folder}: {told or 'no such folder; give the one that your text lies in'}")
    groups: dict[tuple[str, str], FoundSource] = {}
    try:
        paths = list(islice(files_below(folder), MOST_FILES))
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from None
    weights = [path for path in paths if path.suffix.lower() in KINDS["model"]]
    models = {path if path.suffix.lower() == ".gguf" else path.parent for path in weights}
    problems: list[str] = []
    conversations: list[str] = []
    passed_over: Counter[str] = Counter()
    for path in paths:
        kind, ending = _kind(path)
        if kind == "model" or path.parent in models:  # its configuration and vocabulary are no text
            continue
        if not kind:
            passed_over[path.suffix or path.name] += 1
        elif kind in ("jsonl", "parquet") and (columns := _columns(path, kind)).keys() >= PROBLEM:
            problems.append(str(path))
        elif kind in ("jsonl", "parquet") and isinstance(columns.get("messages"), list) and not _text_field(columns):
            conversations.append(str(path))
        else:
            below = path.relative_to(folder).parts
            top = below[0] if len(below) > 1 else ""
            found = groups.setdefault((top, kind), FoundSource(kind, folder / top))
            found.endings.add(ending)
            found.files += 1
            found.size += path.stat().st_size
            if found.files == 1 and kind in ("jsonl", "parquet"):
                found.options = _options(columns)
    if not groups and not models and not problems and not conversations:
        names = ", ".join(f"{count} {ending}" for ending, count in passed_over.most_common(5)) or "it is empty"
        kinds = "crawls, wiki dumps, books, subtitles, code, CSV, JSON lines and Parquet"
        raise UserError(f"{folder}: nothing in it is text that Deepmill reads ({names}); it reads {kinds}")
    sources = _named(_without_company(groups))
    for name, source in sources.items():
        _read(name, source)
    if sources and not models and all(source.trouble for source in sources.values()):
        told = "; ".join(f"{name}: {source.trouble}" for name, source in sources.items())
        raise UserError(f"{folder}: nothing in it can be read as text ({told})")
    return Inventory(sources, problems, conversations, sorted(models), passed_over)


def _kind(path: Path) -> tuple[str, str]:
    """Kind of a file, and the end of its name that tells; ("", "") for none that is read."""
    name = path.name
    packed = next((ending for ending in PACKED if name.endswith(ending)), "")
    suffix = Path(name.removesuffix(packed)).suffix
    inner, ending = suffix.lower(), suffix + packed
    for kind, endings in KINDS.items():
        if inner in endings:
            return kind, ending
    if inner == ".xml" or (packed and not language_of(name)):
        head = _head(path).replace(b"\0", b"")  # of two bytes a character, perhaps
        found = next((kind for first, kind in FIRST_BYTES.items() if first in head), "")
        return (found, ending if inner == ".xml" else packed) if found else ("", "")
    if not packed and language_of(name):
        return "code", suffix or name
    return "", ""


def _head(path: Path) -> bytes:
    try:
        with open_stream(Part(ExternalFile(str(path), path.name, path.stat().st_size))) as stream:
            return bytes(stream.read(2000))
    except (Damaged, OSError, UserError):
        return b""


def _without_company(groups: Mapping[tuple[str, str], FoundSource]) -> dict[tuple[str, str], FoundSource]:
    """Without the few texts that keep code company, its licences and notes: they are no books."""
    files: dict[str, Counter[str]] = defaultdict(Counter)
    for (top, kind), source in groups.items():
        files[top][kind] += source.files
    return {
        (top, kind): source
        for (top, kind), source in groups.items()
        if not (kind == "book" and files[top]["code"] >= source.files)
    }


def _named(groups: Mapping[tuple[str, str], FoundSource]) -> dict[str, FoundSource]:
    """Sources by their folder's name, or their kind where that is no name, or is taken."""
    found: dict[str, FoundSource] = {}
    for (top, kind), source in groups.items():
        name = "".join(letter if (letter.isascii() and letter.isalnum()) or letter in "._-" else "-" for letter in top)
        name = name.strip("-._").lower() or kind
        name = name if name not in found else f"{name}-{kind}"
        found[name] = source
    return found


def _text_field(columns: dict[str, Any]) -> str | None:
    return next((name for name in TEXT_FIELDS if isinstance(columns.get(name), str)), None)


def _options(columns: dict[str, Any]) -> dict[str, Any]:
    """The column that holds the text, and the profile that the others speak for."""
    text = _text_field(columns)
    options: dict[str, Any] = {} if text in (None, "text") else {"text_field": text}
    if text == "code" or any(
        isinstance(value, str) and "://" not in value and language_of(value) for value in columns.values()
    ):
        options["profile"] = Profile.CODE.value
    elif "messages" in columns or "conversations" in columns:
        options["profile"] = Profile.DIALOGUE.value
    return options


def _columns(path: Path, kind: str) -> dict[str, Any]:
    """The first row: names of the columns and what they hold; empty where there is none to be read."""
    try:
        if kind == "parquet":
            with pq.ParquetFile(path) as file:
                rows = next(file.iter_batches(1)).to_pylist()
            return dict(rows[0]) if rows else {}
        with open_stream(Part(ExternalFile(str(path), path.name, path.stat().st_size))) as stream:
            row = json.loads(stream.readline(1 << 20).decode("utf-8-sig"))
    except (OSError, ValueError, StopIteration, pa.ArrowException, Damaged, UserError):
        return {}
    return row if isinstance(row, dict) else {}


def _read(name: str, source: FoundSource) -> None:
    """Read the first documents of a source, and note what they say of the rest."""
    options = {"kind": source.kind, "paths": source.paths, **source.options}
    try:
        config = ExtractConfig.model_validate({"sources": {name: options}})
        documents, rejected = peek(config, DOCUMENTS)
    except (UserError, OSError) as error:
        source.trouble = str(error)
        return
    if not documents:
        reasons = [f"{WHY.get(reason, reason)} ({number})" for reason, number in rejected.most_common(2)]
        source.trouble = f"none of the first records gave a text: {'; '.join(reasons) or 'there are none'}"
    rule = LanguageRule((), 0.0)
    for document in documents:
        rule.filter(document)
        if document.metadata["language_score"] > SURE and document.metadata["language"] not in NO_LANGUAGE:
            source.languages[document.metadata["language"]] += 1
