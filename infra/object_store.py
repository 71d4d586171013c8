"""The artifact store on S3, or any fsspec file system with a conditional put, worked on through a local folder.

An artifact's files go up first, are looked for, and then the manifest makes it real, with a put that fails if another
run was quicker. What is fetched is verified. A store that is away for a while is waited for
(`infra.retrying_filesystem`).
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.durable import write_durably
from infra.errors import TransientError, UserError
from infra.hashing import file_digest
from infra.lease import create_object, file_lease, object_lease
from infra.manifest import MANIFEST, Manifest
from infra.retrying_filesystem import RetryingFileSystem
from infra.store import DAMAGED, NOTES, OnWait, Staging, Store

__all__ = ["ObjectStore"]

AGAIN = "run the same command again: nothing is lost"
UPLOADS = 3


class ObjectStore(Store):
    """A store on S3 (or any fsspec file system with a conditional put), worked on through a local folder."""

    def __init__(self, address: str, local: Path, filesystem: Any = None) -> None:
        import fsspec

        self.address = address.rstrip("/")
        self.local = local.absolute()
        self.local.mkdir(parents=True, exist_ok=True)
        self._fs = RetryingFileSystem(filesystem or fsspec.filesystem(address.split("://")[0]), self.address)
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
                raise UserError(f"{self.place(stage, identity)}/{file.path}: {DAMAGED}")
        write_durably(folder / MANIFEST, manifest.model_dump_json(indent=2).encode())
        return folder

    def place(self, stage: str, identity: str) -> str:
        return f"{self.address}/{stage}/{identity}"

    def publish(self, staging: Staging, manifest: Manifest) -> None:
        staging.finish(manifest)
        keep = self.local / ".fetched" / manifest.stage / manifest.identity
        first = self.find(manifest.stage, manifest.identity) is None
        if first:
            self._upload(staging.artifact, manifest)
            body = (staging.artifact / MANIFEST).read_bytes()
            key = self._key(manifest.stage, manifest.identity, MANIFEST)
            first = create_object(self._fs, key, body)
            if self._read(key) is None:  # the last write got lost
                create_object(self._fs, key, body)
                if self._read(key) is None:
                    raise TransientError(f"{key}: the store took the manifest and does not have it; {AGAIN}")
        if first and not keep.exists():
            keep.parent.mkdir(parents=True, exist_ok=True)
            staging.artifact.rename(keep)
        staging.remove()

    def _upload(self, folder: Path, manifest: Manifest) -> None:
        """Put every file of an artifact but its manifest, and see that the store has them: a write may get lost.

        Raises:
            TransientError: files are missing or cut short after repeated uploads.
        """
        left = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.relative_to(folder).as_posix() != MANIFEST
        }
        base = self._key(manifest.stage, manifest.identity)
        for _ in range(UPLOADS):
            for name, path in left.items():
                self._fs.put_file(str(path), f"{base}/{name}")
            self._fs.invalidate_cache()
            there = {key: entry["size"] for key, entry in self._fs.find(base, detail=True).items()} if left else {}
            left = {name: path for name, path in left.items() if there.get(f"{base}/{name}") != path.stat().st_size}
            if not left:
                return
        raise TransientError(f"{base}: the store took {len(left)} files and does not have them; {AGAIN}")

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

    def latest(self, stage: str) -> Manifest | None:
        self._fs.invalidate_cache()
        try:
            entries = self._fs.glob(self._key(stage, "*", MANIFEST), detail=True)
        except FileNotFoundError:
            entries = {}
        if not entries:
            return None
        newest = max(entries, key=lambda key: (str(entries[key].get("LastModified", "")), key))
        return Manifest.model_validate_json(self._fs.cat_file(newest))

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
