"""Documents between stages: Parquet files, datatrove steps that read and write them, the executor that runs the steps.

An artifact has a folder `documents/` of files `00000.parquet`, `00001.parquet`, ... with the columns of `SCHEMA`, and,
where a stage drops documents, `rejects/` with the further column `rule`; likewise `cuts/`, with some of what it cut out
of documents that stay. A stage runs one datatrove task per input
file, and task n writes file n: what is written depends on the input alone, not on how many tasks run at once. A file
appears under its name when its task is done, so a killed stage goes on with the tasks that are left.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from infra import events
from infra.errors import UserError
from infra.execution import execution
from pipeline.tasks.executors import run_tasks
from pipeline.tasks.task_parts import TaskParts

__all__ = [
    "CUT_SHOWN",
    "SCHEMA",
    "CutWriter",
    "Document",
    "DocumentReader",
    "DocumentWriter",
    "RejectWriter",
    "count_documents",
    "document_files",
    "read_documents",
    "read_file",
    "run_pipeline",
    "source_characters",
    "sources_of",
]

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("url", pa.string()),
        ("metadata", pa.string()),
    ]
)
REJECT_SCHEMA = SCHEMA.append(pa.field("rule", pa.string()))
CHARACTERS = "deepmill.characters"
"""Key in the footer of a file of documents under which it says how many characters each source has in it."""
MOST_CUTS, CUT_SHOWN = 500, 2000
"""Documents of a task whose cuts by one rule are kept, and characters of each."""
ROW_GROUP_BYTES = 8_000_000
"""Text held before a row group is written."""
OF_A_ROW, MOST_REST = 500, 64_000_000
"""Memory of a row beside what it holds; most bytes held beside the text: rejects may have none, and be many."""


def document_files(artifact: Path, kind: str = "documents") -> list[Path]:
    """The Parquet files of an artifact's `documents`, `rejects` or `cuts`, in order."""
    return sorted((artifact / kind).glob("*.parquet"))


def read_file(file: Path) -> Iterator[Document]:
    """The documents of one file; `metadata` holds `source`, `url`, what the column holds, and `rule` of a reject.

    Raises:
        UserError: it is no Parquet file.
    """
    try:
        handle = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise UserError(f"{file}: not a Parquet file of documents ({error}); make the stage again") from None
    with handle:
        for batch in handle.iter_batches(256):
            for row in batch.to_pylist():
                metadata = {**json.loads(row["metadata"] or "{}"), "source": row["source"], "url": row["url"]}
                if "rule" in row:
                    metadata["rule"] = row["rule"]
                yield Document(text=row["text"], id=row["id"], metadata=metadata)


def read_documents(artifact: Path, kind: str = "documents") -> Iterator[Document]:
    """Every document of an artifact, file by file."""
    for file in document_files(artifact, kind):
        yield from read_file(file)


class DocumentReader(PipelineStep):
    """Reads the file of its task; world size is the number of files."""

    type = "READER"
    name = "documents"

    def __init__(self, artifact: Path) -> None:
        super().__init__()
        self.files = document_files(artifact)

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        assert world_size == len(self.files), "one task per file"
        for document in read_file(self.files[rank]):
            yield document
            events.advance()
        events.flush()


class _ParquetFile:
    """Gathers documents into one Parquet file that takes its name when complete.

    Until then it lies in `.work`, under a name that no other attempt has: a cluster may start a task again before it
    knows that the first attempt has ended, and the bytes of either are right.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        self.partial = path.parents[1] / ".work" / "partial" / f"{path.parent.name}-{path.stem}-{uuid.uuid4().hex}"
        for folder in (path.parent, self.partial.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.writer = pq.ParquetWriter(self.partial, schema, compression="zstd")
        self.rows: list[dict[str, str]] = []
        self.size = self.rest = 0
        self.characters: Counter[str] = Counter()

    def write(self, document: Document, **further: str) -> None:
        metadata = {key: value for key, value in document.metadata.items() if key not in ("source", "url")}
        row = {
            "id": document.id,
            "text": document.text,
            "source": document.metadata["source"],
            "url": document.metadata.get("url") or "",
            "metadata": json.dumps(metadata, ensure_ascii=False, sort_keys=True),
            **further,
        }
        self.rows.append(row)
        self.size += len(document.text)
        self.characters[row["source"]] += len(document.text)
        self.rest += OF_A_ROW + len(row["metadata"]) + len(row["url"])
        if self.size >= ROW_GROUP_BYTES or self.rest >= MOST_REST:
            self._flush()

    def _flush(self) -> None:
        self.writer.write_table(pa.Table.from_pylist(self.rows, self.schema))
        self.rows, self.size, self.rest = [], 0, 0

    def close(self, complete: bool) -> None:
        if complete and self.rows:
            self._flush()
        self.writer.add_key_value_metadata({CHARACTERS: json.dumps(self.characters, sort_keys=True)})
        self.writer.close()
        if complete:
            self.partial.replace(self.path)
        else:
            self.partial.unlink(missing_ok=True)


class DocumentWriter(PipelineStep):
    """Writes the documents of its task to `documents/<task>.parquet`, and passes them on."""

    type = "WRITER"
    name = "documents"

    def __init__(self, out_dir: Path) -> None:
        super().__init__()
        self.folder = out_dir / "documents"

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        file = _ParquetFile(self.folder / f"{rank:05d}.parquet", SCHEMA)
        complete = False
        try:
            for document in data:
                file.write(document)
                yield document
            complete = True
        finally:
            file.close(complete)


class _SideWriter:
    """Context of a step that writes documents beside those that stay: a file for its task, only if there are any."""

    def __init__(self, out_dir: Path, rank: int, kind: str) -> None:
        self.path = out_dir / kind / f"{rank:05d}.parquet"
        self.file: _ParquetFile | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, document: Document, rule: str) -> None:
        """Keep `document` as dropped by `rule`."""
        if self.file is None:
            self.file = _ParquetFile(self.path, REJECT_SCHEMA)
        self.file.write(document, rule=rule)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file is not None:
            self.file.close(complete=kind is None)


class RejectWriter(_SideWriter):
    """Writes the documents that a step drops to `rejects/<task>.parquet`."""

    def __init__(self, out_dir: Path, rank: int) -> None:
        super().__init__(out_dir, rank, "rejects")


class CutWriter(_SideWriter):
    """Writes what rules cut out of documents that stay to `cuts/<task>.parquet`: the first `MOST_CUTS` of each source
    and rule."""

    def __init__(self, out_dir: Path, rank: int) -> None:
        super().__init__(out_dir, rank, "cuts")
        self.written: Counter[tuple[str, str]] = Counter()

    def cut(self, document: Document, rule: str, text: str) -> None:
        """Keep `text`, which `rule` cut out of `document`."""
        source, url = document.metadata["source"], document.metadata.get("url")
        self.written[source, rule] += 1
        if self.written[source, rule] <= MOST_CUTS:
            metadata = {"source": source, "url": url}
            self.write(Document(text=text[:CUT_SHOWN], id=document.id, metadata=metadata), rule)


def run_pipeline(
    steps: list[PipelineStep | Callable[..., Any]],
    tasks: int,
    work: Path,
    name: str,
    *,
    processes: Literal[1] | None = None,
    parts: TaskParts | None = None,
) -> None:
    """Run datatrove steps as `tasks` tasks, where and as many at once as the execution says; finished ones are skipped.

    Logs and the marks of finished tasks are in `work / name`, which belongs to a stage's `.work`. With `processes=1`
    the tasks run in this process, for work that is less than starting others. With `parts`, tasks whose files are kept
    from an earlier artifact are finished before they begin, where the stage keeps parts (`infra.kept_parts`).
    """
    with contextlib.nullcontext() if parts is None else parts.kept(tasks, work / name):
        run_tasks(steps, tasks, work / name, execution(), here=processes == 1)


def count_documents(artifact: Path) -> int:
    """How many documents an artifact has, from the files' footers."""
    return sum(pq.read_metadata(file).num_rows for file in document_files(artifact))


def sources_of(file: Path) -> list[str]:
    """The sources that have documents in a file, as its footer says; empty where it does not say."""
    told = (pq.read_metadata(file).metadata or {}).get(CHARACTERS.encode())
    return sorted(json.loads(told)) if told else []


def source_characters(artifact: Path) -> dict[str, int]:
    """How many characters each source has in an artifact, from the files' footers; empty where one does not say."""
    total: Counter[str] = Counter()
    for file in document_files(artifact):
        told = (pq.read_metadata(file).metadata or {}).get(CHARACTERS.encode())
        if told is None:
            return {}
        total.update(json.loads(told))
    return dict(total)
