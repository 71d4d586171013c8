"""The manifest: the record that makes an artifact real, and all that is needed to make it again."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from infra.digests import Take, digests_of
from infra.errors import UserError, first_problem
from infra.hashing import digest
from infra.integrity import plain_files
from infra.json_objects import JsonObject
from infra.paths import file_name, relative_path

__all__ = [
    "LOGS",
    "MANIFEST",
    "WORK",
    "FileRecord",
    "Manifest",
    "address",
    "read_manifest",
    "record_files",
    "split_address",
]

MANIFEST = "manifest.json"
LOGS = ".logs"
"""Folder of an artifact for what was said while it was made: events and the stage's own output. Not checksummed."""
WORK = ".work"
"""Folder of a stage's own for resuming; never published."""


class FileRecord(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True)

    path: str
    """Below the artifact's folder, whoever wrote the manifest."""
    size: int
    sha256: str

    _stays_within = field_validator("path")(relative_path)


class Manifest(BaseModel):
    """What an artifact is, what it was made from and by, and what it holds."""

    model_config = ConfigDict(frozen=True)

    stage: str
    version: int
    identity: str
    config: JsonObject
    inputs: dict[str, str] = Field(default_factory=dict)
    """``stage/identity`` of the input artifact, by the role it plays."""
    input_contents: dict[str, str] = Field(default_factory=dict)
    """Content digest of the input artifact, by role: tells whether an input was made again and came out different."""
    external: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of every file read from outside the store, by its path at the time."""
    files: tuple[FileRecord, ...]
    content: str
    """One digest over all files: two artifacts with equal `content` hold the same bytes."""
    fingerprint: str
    """Digest of the source code that ran."""
    packages: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict)
    execution: JsonObject = Field(default_factory=dict)
    metrics: JsonObject = Field(default_factory=dict)
    cost: dict[str, float] = Field(default_factory=dict)
    """What it took: `cpu_seconds` of all its processes, `gpu_seconds` held. Of the attempt that finished."""
    started: str
    """UTC, ISO 8601."""
    seconds: float
    run_id: str

    _stay_within = field_validator("stage", "identity")(file_name)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of every file, by its path."""
        return {file.path: file.sha256 for file in self.files}

    @property
    def address(self) -> str:
        """``stage/identity``: where it lies in its store."""
        return address(self.stage, self.identity)

    @property
    def ended(self) -> str:
        """When it was made, UTC, ISO 8601."""
        return (datetime.fromisoformat(self.started) + timedelta(seconds=self.seconds)).isoformat(timespec="seconds")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def address(stage: str, identity: str) -> str:
    """Where an artifact lies in its store: ``stage/identity``."""
    return f"{stage}/{identity}"


def split_address(text: str) -> tuple[str, str]:
    """Stage and identity of an `address`."""
    stage, _, identity = text.partition("/")
    return stage, identity


def read_manifest(body: bytes, place: str) -> Manifest:
    """The manifest in `body`, which lies at `place`.

    Raises:
        UserError: it is damaged, or names files outside of its artifact.
    """
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        said = first_problem(error)
        raise UserError(f"{place}: no valid manifest ({said}); delete the artifact's folder and run again") from None


def record_files(folder: Path, elsewhere: Take | None = None) -> tuple[tuple[FileRecord, ...], str]:
    """The records of every file of an artifact in `folder`, and the content digest over them.

    The checksums of many bytes are taken by `elsewhere`, where there is such a thing.

    Raises:
        UserError: a file has a name that leads out of the folder elsewhere, or is a link that does so here.
    """
    names = [relative_path(name) for name in plain_files(folder, skip=(LOGS, WORK, MANIFEST))]
    digests = digests_of([folder / name for name in names], elsewhere)
    records = tuple(
        FileRecord(path=name, size=(folder / name).stat().st_size, sha256=found)
        for name, found in zip(names, digests, strict=True)
    )
    return records, digest([[record.path, record.sha256] for record in records])
