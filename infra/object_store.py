"""The artifact store on S3, or any fsspec file system with a conditional put, worked on through a local folder.

An artifact's files go up first, are looked for, and then the manifest makes it real, with a put that fails if another
run was quicker. What is fetched is verified. A store that is away for a while is waited for
(`infra.retrying_filesystem`); one that answers anything but "there is no such object" is never taken for an empty one
(`infra.listing`).
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from infra.digests import MANY_BYTES, Take, read_files
from infra.durable import write_durably
from infra.errors import TransientError, UserError
from infra.hashing import file_digest
from infra.integrity import DAMAGED, differences
from infra.lease import create_object, file_lease, object_lease
from infra.listing import children, read_object
from infra.manifest import LOGS, MANIFEST, FileRecord, Manifest, read_manifest
from infra.paths import file_name, relative_path, within
from infra.retrying_filesystem import RetryingFileSystem
from infra.store import NOT_STAGES, NOTES, PUBLISHED_BESIDE, REMEDY, OnWait, Send, Staging, Store, own_manifest

__all__ = ["ObjectStore"]

AGAIN = "run the same command again: nothing is lost"
UPLOADS = 3
SENDERS = 8
"""Files on their way at once, either way."""
OBJECTS = "objects.json"
"""Beside the logs of an artifact's copy on this machine: what the store called its objects when it took them (ETag)."""
SOURCES = 4
"""Earlier artifacts of a stage, last first, whose objects are copied where they hold a file of a new one."""


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
        return "/".join((self._root, *map(relative_path, parts)))

    def _artifact(self, stage: str, identity: str) -> str:
        return self._key(file_name(stage), file_name(identity))

    def _read(self, key: str) -> bytes | None:
        return read_object(self._fs, key)

    def find(self, stage: str, identity: str) -> Manifest | None:
        body = self._read(f"{self._artifact(stage, identity)}/{MANIFEST}")
        return None if body is None else own_manifest(body, self.place(stage, identity), stage, identity)

    def _fetched(self, stage: str, identity: str) -> Path:
        return self.local / ".fetched" / file_name(stage) / file_name(identity)

    def path(self, stage: str, identity: str) -> Path:
        folder = self._fetched(stage, identity)
        if (folder / MANIFEST).exists():
            return folder
        manifest = self.find(stage, identity)
        assert manifest is not None, f"{stage}/{identity} is not in the store"
        self._fetch(manifest, folder)
        return folder

    def verified(self, stage: str, identity: str, take: Take | None = None) -> Path:
        """See `Store`; a copy on this machine that is not what the store's manifest lists is fetched again."""
        manifest = self.find(stage, identity)
        if manifest is None:
            raise UserError(f"{self.place(stage, identity)}: the artifact is gone; run again to build it")
        folder = self._fetched(stage, identity)
        read = partial(read_files, take)
        if not (folder / MANIFEST).exists() or differences(folder, manifest.digests, skip=PUBLISHED_BESIDE, read=read):
            self._fetch(manifest, folder)
        return folder

    def _fetch(self, manifest: Manifest, folder: Path) -> None:
        """Bring the files that the manifest lists, and no others, into `folder`; what is whole there already stays.

        Raises:
            UserError: the store holds other bytes than its manifest records, or a link leads out of `folder`.
        """
        with ThreadPoolExecutor(SENDERS) as threads:
            list(threads.map(lambda file: self._fetch_file(manifest, file, within(folder, file.path)), manifest.files))
        for extra in differences(folder, manifest.digests, skip=PUBLISHED_BESIDE):
            (folder / extra.path).unlink(missing_ok=True)
        write_durably(folder / MANIFEST, manifest.model_dump_json(indent=2).encode())

    def _fetch_file(self, manifest: Manifest, file: FileRecord, target: Path) -> None:
        if target.is_file() and not target.is_symlink() and file_digest(target) == file.sha256:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        self._fs.get_file(f"{self._artifact(manifest.stage, manifest.identity)}/{file.path}", str(target))
        if file_digest(target) != file.sha256:
            raise UserError(f"{self.place(manifest.stage, manifest.identity)}/{file.path}: {DAMAGED}; {REMEDY}")

    def place(self, stage: str, identity: str) -> str:
        return f"{self.address}/{stage}/{identity}"

    def publish(self, staging: Staging, manifest: Manifest, send: Send | None = None) -> None:
        staging.finish(manifest)
        keep = self._fetched(manifest.stage, manifest.identity)
        first = self.find(manifest.stage, manifest.identity) is None
        if first:
            self._upload(staging.artifact, manifest, send)
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

    def _upload(self, folder: Path, manifest: Manifest, send: Send | None) -> None:
        """Put every file of an artifact but its manifest, and see that the store has them: a write may get lost.

        A file that an earlier artifact of the stage has as well is copied by the store, and is not sent again.

        Raises:
            TransientError: files are missing or cut short after repeated uploads.
        """
        left = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.relative_to(folder).as_posix() != MANIFEST
        }
        base = self._artifact(manifest.stage, manifest.identity)
        address = self.place(manifest.stage, manifest.identity)
        copied = self._copy(manifest)
        for _ in range(UPLOADS):
            wanted = {f"{address}/{name}": path for name, path in left.items() if name not in copied}
            many = sum(path.stat().st_size for path in wanted.values()) > MANY_BYTES
            (send if send and many else self._send)(wanted)
            there = self._objects(base) if left else {}
            left = {name: path for name, path in left.items() if there.get(name, {}).get("size") != path.stat().st_size}
            if not left:
                tags = {name: there[name]["ETag"] for name in manifest.digests if "ETag" in there[name]}
                (folder / LOGS / OBJECTS).write_text(json.dumps(tags))
                return
            copied = set()
        raise TransientError(f"{base}: the store took {len(left)} files and does not have them; {AGAIN}")

    def _objects(self, base: str) -> dict[str, dict[str, Any]]:
        """What the store says now of each object below a key, by its path there."""
        self._fs.invalidate_cache()
        return {key.removeprefix(f"{base}/"): entry for key, entry in self._fs.find(base, detail=True).items()}

    def _copy(self, manifest: Manifest) -> set[str]:
        """Let the store copy what it has of an artifact's files in others; the paths of those that it copied.

        An object is a source while the store calls it what it did when this machine put it there: nobody has written
        it since.
        """
        base = self._artifact(manifest.stage, manifest.identity)
        wanted: dict[str, str] = {}
        folders = self._fetched(manifest.stage, manifest.identity).parent.glob(f"*/{LOGS}/{OBJECTS}")
        for file in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[:SOURCES]:
            earlier = self._artifact(manifest.stage, file.parents[1].name)
            tags = json.loads(file.read_bytes())
            digests = read_manifest((file.parents[1] / MANIFEST).read_bytes(), str(file.parents[1])).digests
            there = self._objects(earlier) if tags else {}
            same = {digests[name]: name for name, tag in tags.items() if there.get(name, {}).get("ETag") == tag}
            found = {path: same[digest] for path, digest in manifest.digests.items() if digest in same}
            wanted = {path: f"{earlier}/{name}" for path, name in found.items()} | wanted
        with ThreadPoolExecutor(SENDERS) as threads:
            done = threads.map(lambda path: self._copied(wanted[path], f"{base}/{path}"), wanted)
            return {path for path, copied in zip(wanted, done, strict=True) if copied}

    def _copied(self, source: str, target: str) -> bool:
        """Whether the store copied an object; what it does not copy is sent."""
        try:
            self._fs.cp_file(source, target)
        except OSError:
            return False
        return True

    def _send(self, files: Mapping[str, Path]) -> None:
        with ThreadPoolExecutor(SENDERS) as threads:
            list(threads.map(self._fs.put_file, map(str, files.values()), files))

    def withdraw(self, stage: str, identity: str) -> None:
        artifact = self._artifact(stage, identity)
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{artifact}/{MANIFEST}")
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(artifact, recursive=True)
        shutil.rmtree(self._fetched(stage, identity), ignore_errors=True)

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

    def _names(self, *parts: str) -> list[str]:
        """Names of the folders below a key."""
        entries = children(self._fs, self._key(*parts) if parts else self._root)
        return [each.name for each in entries if each.is_folder]

    def manifests(self, stage: str) -> list[Manifest]:
        found = (self.find(stage, identity) for identity in self._names(file_name(stage)))
        return sorted(filter(None, found), key=lambda manifest: manifest.started)

    def latest(self, stage: str) -> Manifest | None:
        times = [
            (str(each.modified or ""), identity)
            for identity in self._names(file_name(stage))
            for each in children(self._fs, self._artifact(stage, identity))
            if each.name == MANIFEST
        ]
        return self.find(stage, max(times)[1]) if times else None

    def artifacts(self) -> Iterator[tuple[str, str]]:
        for stage in self._names():
            if not stage.startswith(".") and stage not in NOT_STAGES:
                for identity in self._names(stage):
                    if any(each.name == MANIFEST for each in children(self._fs, self._artifact(stage, identity))):
                        yield stage, identity

    def _record(self, folder: str, name: str) -> str:
        return self._key(folder, f"{file_name(name)}.json")

    def _write_record(self, folder: str, name: str, body: bytes) -> None:
        self._fs.pipe_file(self._record(folder, name), body)

    def _read_record(self, folder: str, name: str) -> bytes | None:
        return self._read(self._record(folder, name))

    def _record_names(self, folder: str) -> list[str]:
        names = (each.name for each in children(self._fs, self._key(folder)) if not each.is_folder)
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def delete_note(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._record(NOTES, name))

    def _record_place(self, folder: str, name: str) -> str:
        return f"{self.address}/{folder}/{file_name(name)}.json"
