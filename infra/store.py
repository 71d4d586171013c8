"""The artifact store: ``<root>/<stage>/<identity>/``, immutable, real once its manifest is there.

Work happens in a staging folder on local disk, which keeps its place so that a killed stage resumes. On local disk an
artifact is published by one atomic rename; on an object store its files go up first and the manifest last, with a put
that fails if another run was quicker. Reading verifies checksums of what was fetched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

from infra.digests import Take, read_files
from infra.durable import sync, write_durably
from infra.errors import UserError
from infra.integrity import check_folder
from infra.json_objects import JsonObject, object_in
from infra.lease import file_lease
from infra.manifest import LOGS, MANIFEST, WORK, Manifest, read_manifest
from infra.paths import file_name

__all__ = [
    "NOTES",
    "PUBLISHED_BESIDE",
    "REMEDY",
    "LocalStore",
    "OnWait",
    "Send",
    "Staging",
    "Store",
    "own_manifest",
]

OnWait = Callable[[str], None]
Send = Callable[[Mapping[str, Path]], None]
"""Puts files to the addresses that they are named by."""
REMEDY = "it is not as the artifact's manifest says; delete the artifact's folder and run again"
LOST = "put it back from a copy, or delete it"
"""What to do about a record or a note that cannot be read."""
PUBLISHED_BESIDE = (LOGS, MANIFEST)
"""What lies in an artifact's folder beside its files; no stage reads it."""
NOTES, RUNS = ".notes", "runs"
"""Folders of a store for small records, a JSON file each."""
TRACES = "trace-*"
"""Files beside a stage's log that are kept with it."""
NOT_STAGES = (RUNS, "mlartifacts")
"""Folders of a local store that hold no artifacts."""
UNFINISHED = (".tmp*", ".*.tmp")
"""Files that a killed writer left half, under names that nobody takes up: safetensors' and `infra.durable`'s."""


class Staging:
    """The private working folder of one artifact in the making."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artifact = folder / "artifact"
        """What the stage writes into."""
        self.events = folder / "events.jsonl"
        self.cleanup_hooks = folder.with_name(f"{folder.name}.endings")
        """See `infra.cleanup_hooks`; apart, for it must outlive the leftovers of other code."""
        self.log = folder / "stage.log"
        self.job = folder / "job.json"
        self.result = folder / "result.json"
        self.set_aside: Path | None = None
        """Where `prepare` left the unfinished work of other code."""

    def prepare(self, fingerprint: str) -> bool:
        """Make ready for an attempt; whether leftovers of an earlier one, by the same code, are there to resume.

        Work of other code cannot be gone on with, for the bytes would be neither's; it is set aside until the artifact
        is made, and taken up when that code runs again.
        """
        marker = self.folder / "fingerprint"
        before = marker.read_text() if marker.exists() else ""
        if before != fingerprint:
            if before and any(self.artifact.rglob(WORK)):
                self.set_aside = self._by_code(before)
                shutil.rmtree(self.set_aside, ignore_errors=True)
                self.folder.rename(self.set_aside)
            shutil.rmtree(self.folder, ignore_errors=True)
            if (ours := self._by_code(fingerprint)).exists():
                ours.rename(self.folder)
        resumed = marker.exists()
        self.artifact.mkdir(parents=True, exist_ok=True)
        for path in chain.from_iterable(self.artifact.rglob(pattern) for pattern in UNFINISHED):
            if path.is_file():
                path.unlink()
        marker.write_text(fingerprint)
        for stale in (self.result, self.events):
            stale.unlink(missing_ok=True)
        return resumed

    def finish(self, manifest: Manifest) -> None:
        """Clear away what is not published, keep the logs, and write the manifest: the last file."""
        shutil.rmtree(self.artifact / WORK, ignore_errors=True)
        logs = self.artifact / LOGS
        logs.mkdir(exist_ok=True)
        for path in (self.events, self.log, *self.folder.glob(TRACES)):
            if path.exists():
                shutil.copyfile(path, logs / path.name)
        write_durably(self.artifact / MANIFEST, manifest.model_dump_json(indent=2).encode())

    def finished(self) -> Manifest | None:
        """The manifest of an artifact that was made here and never published."""
        path = self.artifact / MANIFEST
        try:
            return read_manifest(path.read_bytes(), str(path))
        except FileNotFoundError:
            return None

    def _by_code(self, fingerprint: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}.code-{fingerprint}")

    def remove(self) -> None:
        for folder in (self.folder, self.cleanup_hooks, *self.folder.parent.glob(f"{self.folder.name}.code-*")):
            shutil.rmtree(folder, ignore_errors=True)


class Store(ABC):
    """What the flows ask of a store, wherever it is."""

    local: Path
    """Folder on this machine for staging, records and what is fetched."""
    address: str
    """Where the store is, for people."""

    def staging(self, stage: str, identity: str, purpose: str = ".staging") -> Staging:
        return Staging(self.local / purpose / stage / identity)

    @abstractmethod
    def find(self, stage: str, identity: str) -> Manifest | None:
        """The manifest of a published artifact; None only where the store says that there is none.

        Raises:
            UserError: the manifest is damaged, or another artifact's.
            OSError: the store does not answer, or not with the manifest.
        """

    @abstractmethod
    def path(self, stage: str, identity: str) -> Path:
        """A local folder with the files of a published artifact.

        Raises:
            UserError: a file does not have the checksum that its manifest records.
        """

    def verified(self, stage: str, identity: str, take: Take | None = None) -> Path:
        """`path`, for a stage that reads it: it holds what its manifest lists and nothing else.

        Stages read whole folders of an artifact, so a file that the manifest does not list would become their input:
        it is refused like a damaged one. Files are read once per process while they stay the same (`infra.integrity`);
        the checksums of many bytes are taken by `take`, where there is such a thing.

        Raises:
            UserError: a file is missing, has another checksum than the manifest records, or is not listed.
        """
        manifest = self.find(stage, identity)
        if manifest is None:
            raise UserError(f"{self.place(stage, identity)}: the artifact is gone; run again to build it")
        folder = self.path(stage, identity)
        check_folder(folder, manifest.digests, REMEDY, skip=PUBLISHED_BESIDE, read=partial(read_files, take))
        return folder

    @abstractmethod
    def place(self, stage: str, identity: str) -> str:
        """Where a published artifact lies, for people and for MLflow."""

    @abstractmethod
    def publish(self, staging: Staging, manifest: Manifest, send: Send | None = None) -> None:
        """Make the finished artifact in `staging` real; harmless when another run was first.

        Many bytes that go elsewhere are put there by `send`, where there is such a thing.
        """

    @abstractmethod
    def withdraw(self, stage: str, identity: str) -> None:
        """Take a published artifact out of the store, manifest first, so that another can take its place."""

    @abstractmethod
    def lease(self, stage: str, identity: str, on_wait: OnWait) -> contextlib.AbstractContextManager[int | None]:
        """Hold the right to make an artifact. Yields a descriptor that prolongs it in a child, where there is one."""

    @abstractmethod
    def manifests(self, stage: str) -> list[Manifest]:
        """Every published artifact of a stage, oldest first."""

    @abstractmethod
    def latest(self, stage: str) -> Manifest | None:
        """The artifact of a stage that was published last; reads one manifest, however many there are."""

    @abstractmethod
    def artifacts(self) -> Iterator[tuple[str, str]]:
        """Stage and identity of everything that is published or being published; opens no manifest."""

    def write_note(self, name: str, body: JsonObject) -> None:
        """Keep a small JSON object that belongs to no run; whole or not at all."""
        self._write_record(NOTES, name, _encoded(body))

    def read_note(self, name: str) -> JsonObject | None:
        """A note; None where there is none."""
        return self._read_object(NOTES, name)

    def notes(self, prefix: str) -> list[str]:
        """Names of all notes that begin so, in order."""
        return [name for name in self._record_names(NOTES) if name.startswith(prefix)]

    @abstractmethod
    def delete_note(self, name: str) -> None:
        """Take a note away."""

    def note_place(self, name: str) -> str:
        """Path or address of a note's file, which `infra.storage` can read."""
        return self._record_place(NOTES, name)

    def write_run(self, run_id: str, record: JsonObject) -> None:
        """Keep the record of a run; whole or not at all."""
        self._write_record(RUNS, run_id, _encoded(record))

    def read_run(self, run_id: str) -> JsonObject | None:
        """The record of a run; None where there is none."""
        return self._read_object(RUNS, run_id)

    def runs(self) -> list[str]:
        """Identifiers of all runs, oldest first."""
        return self._record_names(RUNS)

    def _read_object(self, folder: str, name: str) -> JsonObject | None:
        body = self._read_record(folder, name)
        return None if body is None else object_in(body, self._record_place(folder, name), LOST)

    @abstractmethod
    def _record_place(self, folder: str, name: str) -> str:
        """Path or address of the file of a record."""

    @abstractmethod
    def _write_record(self, folder: str, name: str, body: bytes) -> None:
        """Write the file of a record, whole or not at all."""

    @abstractmethod
    def _read_record(self, folder: str, name: str) -> bytes | None:
        """The file of a record; None where there is none."""

    @abstractmethod
    def _record_names(self, folder: str) -> list[str]:
        """Names of the records in a folder, in order."""


def _encoded(record: JsonObject) -> bytes:
    return json.dumps(record, indent=2, sort_keys=True).encode()


class LocalStore(Store):
    """A store in a folder, which is made unless it is only looked into (`writes`)."""

    def __init__(self, root: Path, *, writes: bool = True) -> None:
        self.root = self.local = root.absolute()
        self.address = str(root)
        if not writes:
            if self.root.exists() and not self.root.is_dir():
                raise UserError(f"{root}: no folder; name the folder of a store with --root")
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"{root}: cannot write to the store ({error.strerror}); choose another folder with --root"
            ) from None

    def _folder(self, stage: str, identity: str) -> Path:
        return self.root / file_name(stage) / file_name(identity)

    def find(self, stage: str, identity: str) -> Manifest | None:
        path = self._folder(stage, identity) / MANIFEST
        try:
            body = path.read_bytes()
        except FileNotFoundError:
            return None
        return own_manifest(body, str(path), stage, identity)

    def path(self, stage: str, identity: str) -> Path:
        return self._folder(stage, identity)

    def place(self, stage: str, identity: str) -> str:
        return str(self._folder(stage, identity))

    def publish(self, staging: Staging, manifest: Manifest, send: Send | None = None) -> None:
        staging.finish(manifest)
        target = self._folder(manifest.stage, manifest.identity)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not (target / MANIFEST).exists():
            shutil.rmtree(target)  # an artifact without a manifest is none
        with contextlib.suppress(FileExistsError):
            if not target.exists():
                staging.artifact.rename(target)
                sync(target.parent)
        staging.remove()

    def withdraw(self, stage: str, identity: str) -> None:
        folder = self._folder(stage, identity)
        with contextlib.suppress(FileNotFoundError):
            (folder / MANIFEST).unlink()
        shutil.rmtree(folder, ignore_errors=True)

    def lease(self, stage: str, identity: str, on_wait: OnWait) -> contextlib.AbstractContextManager[int | None]:
        return file_lease(self.root / ".leases" / f"{stage}-{identity}", on_wait)

    def manifests(self, stage: str) -> list[Manifest]:
        found = (self.find(stage, name) for name in _names(self.root / stage))
        return sorted(filter(None, found), key=lambda manifest: manifest.started)

    def latest(self, stage: str) -> Manifest | None:
        times: list[tuple[float, str]] = []
        for name in _names(self.root / stage):
            with contextlib.suppress(FileNotFoundError):
                times.append(((self.root / stage / name / MANIFEST).stat().st_mtime, name))
        return self.find(stage, max(times)[1]) if times else None

    def artifacts(self) -> Iterator[tuple[str, str]]:
        for stage in sorted(_names(self.root)):
            if not stage.startswith(".") and stage not in NOT_STAGES:
                yield from ((stage, name) for name in _names(self.root / stage))

    def _record(self, folder: str, name: str) -> Path:
        return self.root / folder / f"{file_name(name)}.json"

    def _write_record(self, folder: str, name: str, body: bytes) -> None:
        path = self._record(folder, name)
        path.parent.mkdir(exist_ok=True)
        write_durably(path, body)

    def _read_record(self, folder: str, name: str) -> bytes | None:
        try:
            return self._record(folder, name).read_bytes()
        except FileNotFoundError:
            return None

    def _record_names(self, folder: str) -> list[str]:
        return sorted(name.removesuffix(".json") for name in _names(self.root / folder, ".json"))

    def delete_note(self, name: str) -> None:
        self._record(NOTES, name).unlink(missing_ok=True)

    def _record_place(self, folder: str, name: str) -> str:
        return str(self._record(folder, name))


def own_manifest(body: bytes, place: str, stage: str, identity: str) -> Manifest:
    """The manifest at `place`, which must be that of the artifact whose place it is.

    Raises:
        UserError: it is damaged, or another artifact's.
    """
    manifest = read_manifest(body, place)
    if (manifest.stage, manifest.identity) != (stage, identity):
        raise UserError(f"{place}: the manifest of {manifest.address}; delete the artifact's folder and run again")
    return manifest


def _names(folder: Path, ending: str = "") -> list[str]:
    """Names of the folders in `folder`, or of the files with this ending; none where there is no such folder.

    Raises:
        OSError: the folder cannot be read (`Path.glob` would take that for an empty one).
    """
    try:
        with os.scandir(folder) as entries:
            return [each.name for each in entries if (each.name.endswith(ending) if ending else each.is_dir())]
    except FileNotFoundError:
        return []
