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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infra.errors import UserError
from infra.hashing import file_digest
from infra.lease import create_object, file_lease, object_lease
from infra.manifest import LOGS, MANIFEST, WORK, Manifest
from infra.settings import Settings

__all__ = ["LocalStore", "ObjectStore", "Staging", "Store", "open_store", "write_durably"]

OnWait = Callable[[str], None]
NOTES = ".notes"
NOT_STAGES = ("runs", "mlartifacts")
"""Folders of a local store that hold no artifacts."""


class Staging:
    """The private working folder of one artifact in the making."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artifact = folder / "artifact"
        """What the stage writes into."""
        self.events = folder / "events.jsonl"
        self.endings = folder.with_name(f"{folder.name}.endings")
        """See `infra.endings`; apart, for it must outlive the leavings of other code."""
        self.log = folder / "stage.log"
        self.job = folder / "job.json"
        self.result = folder / "result.json"

    def prepare(self, fingerprint: str) -> bool:
        """Make ready for an attempt; whether leavings of an earlier one, by the same code, are there to resume."""
        marker = self.folder / "fingerprint"
        resumed = marker.exists() and marker.read_text() == fingerprint
        if not resumed:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.artifact.mkdir(parents=True, exist_ok=True)
        marker.write_text(fingerprint)
        for stale in (self.result, self.events):
            stale.unlink(missing_ok=True)
        return resumed

    def finish(self, manifest: Manifest) -> None:
        """Clear away what is not published, keep the logs, and write the manifest: the last file."""
        shutil.rmtree(self.artifact / WORK, ignore_errors=True)
        logs = self.artifact / LOGS
        logs.mkdir(exist_ok=True)
        for path in (self.events, self.log):
            if path.exists():
                shutil.copyfile(path, logs / path.name)
        write_durably(self.artifact / MANIFEST, manifest.model_dump_json(indent=2).encode())

    def remove(self) -> None:
        for folder in (self.folder, self.endings):
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
        """The manifest of a published artifact."""

    @abstractmethod
    def path(self, stage: str, identity: str) -> Path:
        """A local folder with the files of a published artifact.

        Raises:
            UserError: a file does not have the checksum that its manifest records.
        """

    @abstractmethod
    def place(self, stage: str, identity: str) -> str:
        """Where a published artifact lies, for people and for MLflow."""

    @abstractmethod
    def publish(self, staging: Staging, manifest: Manifest) -> None:
        """Make the finished artifact in `staging` real; harmless when another run was first."""

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
    def artifacts(self) -> Iterator[tuple[str, str]]:
        """Stage and identity of everything that is published or being published; opens no manifest."""

    @abstractmethod
    def write_note(self, name: str, body: dict[str, Any]) -> None:
        """Keep a small JSON object that belongs to no run; whole or not at all."""

    @abstractmethod
    def read_note(self, name: str) -> dict[str, Any] | None:
        """A note; None where there is none."""

    @abstractmethod
    def delete_note(self, name: str) -> None:
        """Take a note away."""

    @abstractmethod
    def write_run(self, run_id: str, record: dict[str, Any]) -> None:
        """Keep the record of a run; whole or not at all."""

    @abstractmethod
    def read_run(self, run_id: str) -> dict[str, Any] | None:
        """The record of a run."""

    @abstractmethod
    def runs(self) -> list[str]:
        """Identifiers of all runs, oldest first."""


class LocalStore(Store):
    """A store in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = self.local = root.absolute()
        self.address = str(root)
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
        return self.root / stage / identity

    def find(self, stage: str, identity: str) -> Manifest | None:
        try:
            text = (self._folder(stage, identity) / MANIFEST).read_bytes()
        except FileNotFoundError:
            return None
        return Manifest.model_validate_json(text)

    def path(self, stage: str, identity: str) -> Path:
        return self._folder(stage, identity)

    def place(self, stage: str, identity: str) -> str:
        return str(self._folder(stage, identity))

    def publish(self, staging: Staging, manifest: Manifest) -> None:
        staging.finish(manifest)
        target = self._folder(manifest.stage, manifest.identity)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not (target / MANIFEST).exists():
            shutil.rmtree(target)  # an artifact without a manifest is none
        with contextlib.suppress(FileExistsError):
            if not target.exists():
                staging.artifact.rename(target)
                _sync_folder(target.parent)
        staging.remove()

    def withdraw(self, stage: str, identity: str) -> None:
        folder = self._folder(stage, identity)
        with contextlib.suppress(FileNotFoundError):
            (folder / MANIFEST).unlink()
        shutil.rmtree(folder, ignore_errors=True)

    def lease(self, stage: str, identity: str, on_wait: OnWait) -> contextlib.AbstractContextManager[int | None]:
        return file_lease(self.root / ".leases" / f"{stage}-{identity}", on_wait)

    def manifests(self, stage: str) -> list[Manifest]:
        found = [Manifest.model_validate_json(path.read_bytes()) for path in (self.root / stage).glob(f"*/{MANIFEST}")]
        return sorted(found, key=lambda manifest: manifest.started)

    def artifacts(self) -> Iterator[tuple[str, str]]:
        for stage in sorted(os.scandir(self.root), key=lambda entry: entry.name):
            if stage.is_dir() and not stage.name.startswith(".") and stage.name not in NOT_STAGES:
                yield from ((stage.name, entry.name) for entry in os.scandir(stage.path) if entry.is_dir())

    def write_note(self, name: str, body: dict[str, Any]) -> None:
        folder = self.root / NOTES
        folder.mkdir(exist_ok=True)
        write_durably(folder / f"{name}.json", json.dumps(body, indent=2, sort_keys=True).encode())

    def read_note(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.root / NOTES / f"{name}.json").read_bytes()))
        except FileNotFoundError:
            return None

    def delete_note(self, name: str) -> None:
        (self.root / NOTES / f"{name}.json").unlink(missing_ok=True)

    def write_run(self, run_id: str, record: dict[str, Any]) -> None:
        folder = self.root / "runs"
        folder.mkdir(exist_ok=True)
        write_durably(folder / f"{run_id}.json", json.dumps(record, indent=2, sort_keys=True).encode())

    def read_run(self, run_id: str) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.root / "runs" / f"{run_id}.json").read_bytes()))
        except FileNotFoundError:
            return None

    def runs(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "runs").glob("*.json"))


class ObjectStore(Store):
    """A store on S3 (or any fsspec file system with a conditional put), worked on through a local folder."""

    def __init__(self, address: str, local: Path, filesystem: Any = None) -> None:
        import fsspec

        self.address = address.rstrip("/")
        self.local = local.absolute()
        self.local.mkdir(parents=True, exist_ok=True)
        self._fs = filesystem or fsspec.filesystem(address.split("://")[0])
        self._root = self._fs._strip_protocol(self.address)

    def _key(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _read(self, key: str) -> bytes | None:
        self._fs.invalidate_cache()
        try:
            return bytes(self._fs.cat_file(key))
        except FileNotFoundError:
            return None

    def find(self, stage: str, identity: str) -> Manifest | None:
        body = self._read(self._key(stage, identity, MANIFEST))
        return Manifest.model_validate_json(body) if body else None

    def path(self, stage: str, identity: str) -> Path:
        folder = self.local / ".fetched" / stage / identity
        if (folder / MANIFEST).exists():
            return folder
        manifest = self.find(stage, identity)
        assert manifest is not None, f"{stage}/{identity} is not in the store"
        for file in manifest.files:
            target = folder / file.path
            if target.exists() and file_digest(target) == file.sha256:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            self._fs.get_file(self._key(stage, identity, file.path), str(target))
            if file_digest(target) != file.sha256:
                raise UserError(
                    f"{self.place(stage, identity)}/{file.path}: the checksum differs from the manifest's; delete "
                    f"the artifact and run again"
                )
        write_durably(folder / MANIFEST, manifest.model_dump_json(indent=2).encode())
        return folder

    def place(self, stage: str, identity: str) -> str:
        return f"{self.address}/{stage}/{identity}"

    def publish(self, staging: Staging, manifest: Manifest) -> None:
        staging.finish(manifest)
        keep = self.local / ".fetched" / manifest.stage / manifest.identity
        for path in sorted(staging.artifact.rglob("*")):
            if path.is_file() and path.name != MANIFEST:
                relative = path.relative_to(staging.artifact).as_posix()
                self._fs.put_file(str(path), self._key(manifest.stage, manifest.identity, relative))
        body = (staging.artifact / MANIFEST).read_bytes()
        first = create_object(self._fs, self._key(manifest.stage, manifest.identity, MANIFEST), body)
        if first and not keep.exists():
            keep.parent.mkdir(parents=True, exist_ok=True)
            staging.artifact.rename(keep)
        staging.remove()

    def withdraw(self, stage: str, identity: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._key(stage, identity, MANIFEST))
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._key(stage, identity), recursive=True)
        shutil.rmtree(self.local / ".fetched" / stage / identity, ignore_errors=True)

    def lease(self, stage: str, identity: str, on_wait: OnWait) -> contextlib.AbstractContextManager[int | None]:
        return self._both_leases(stage, identity, on_wait)

    @contextlib.contextmanager
    def _both_leases(self, stage: str, identity: str, on_wait: OnWait) -> Iterator[int]:
        """The object for other machines, and the kernel's lock for the staging folder that runs here share."""
        with (
            file_lease(self.local / ".leases" / f"{stage}-{identity}", on_wait) as descriptor,
            object_lease(self._fs, self._key(".leases", f"{stage}-{identity}"), on_wait),
        ):
            yield descriptor

    def manifests(self, stage: str) -> list[Manifest]:
        self._fs.invalidate_cache()
        try:
            keys = self._fs.glob(self._key(stage, "*", MANIFEST))
        except FileNotFoundError:
            keys = []
        found = [Manifest.model_validate_json(self._fs.cat_file(key)) for key in keys]
        return sorted(found, key=lambda manifest: manifest.started)

    def artifacts(self) -> Iterator[tuple[str, str]]:
        self._fs.invalidate_cache()
        for key in self._fs.glob(self._key("*", "*", MANIFEST)):
            stage, identity = key.split("/")[-3:-1]
            yield stage, identity

    def write_note(self, name: str, body: dict[str, Any]) -> None:
        self._fs.pipe_file(self._key(NOTES, f"{name}.json"), json.dumps(body, indent=2, sort_keys=True).encode())

    def read_note(self, name: str) -> dict[str, Any] | None:
        body = self._read(self._key(NOTES, f"{name}.json"))
        return dict(json.loads(body)) if body else None

    def delete_note(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._key(NOTES, f"{name}.json"))

    def write_run(self, run_id: str, record: dict[str, Any]) -> None:
        self._fs.pipe_file(self._key("runs", f"{run_id}.json"), json.dumps(record, indent=2, sort_keys=True).encode())

    def read_run(self, run_id: str) -> dict[str, Any] | None:
        body = self._read(self._key("runs", f"{run_id}.json"))
        return dict(json.loads(body)) if body else None

    def runs(self) -> list[str]:
        self._fs.invalidate_cache()
        try:
            return sorted(Path(key).stem for key in self._fs.glob(self._key("runs", "*.json")))
        except FileNotFoundError:
            return []


def open_store(settings: Settings) -> Store:
    """The store that the settings name.

    Raises:
        UserError: it cannot be written to.
    """
    if "://" not in settings.root:
        return LocalStore(Path(settings.root))
    try:
        return ObjectStore(settings.root, settings.scratch)
    except (ImportError, ValueError, OSError) as error:
        raise UserError(f"{settings.root}: cannot open the store ({error}); check the address and AWS_*") from None


def write_durably(path: Path, body: bytes) -> None:
    """Write a file whole or not at all, and have it on disk when this returns."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as handle:
            handle.write(body)
            handle.flush()
            os.fsync(handle.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
