"""A folder is what was recorded of it, file by file, whenever it is used; and a large file is not read each time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

import infra.digests
from infra import integrity
from infra.errors import UserError
from infra.hashing import file_digest
from infra.integrity import DAMAGED, GONE, NOT_LISTED, differences, folder_digests, known_digest
from infra.manifest import LOGS, WORK
from infra.storage import ExternalFile
from infra.store import LocalStore, Store
from tests.infra.test_store import IDENTITY, bucket, stage_files


@pytest.fixture(params=["local", "object"])
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    store: Store = LocalStore(tmp_path / "store")
    if request.param == "object":
        store = bucket(tmp_path, "scratch")
    store.publish(*stage_files(store))
    return store


def test_what_a_stage_reads_is_whole(published: Store) -> None:
    folder = published.verified("fake", IDENTITY)
    assert (folder / "deep" / "a.txt").read_text() == "hello"
    assert (folder / LOGS / "stage.log").exists()


@pytest.mark.parametrize("name", ["deep/b.txt", "extra", "new/c.parquet", f"{WORK}/half", "deep/.hidden"])
def test_a_file_that_is_not_listed_is_not_read(published: Store, name: str) -> None:
    """Stages read whole folders; what lies there besides would become their input."""
    extra = published.verified("fake", IDENTITY) / name
    extra.parent.mkdir(parents=True, exist_ok=True)
    extra.write_text("more")
    if isinstance(published, LocalStore):
        with pytest.raises(UserError, match=f"{name}: {NOT_LISTED}; .*delete") as told:
            published.verified("fake", IDENTITY)
        assert "\n" not in str(told.value)
    else:  # a copy on this machine is brought back to what the store holds
        assert not (published.verified("fake", IDENTITY) / name).exists()


@pytest.mark.parametrize("damage", ["changed", "same size", "gone", "cut"])
def test_a_damaged_file_is_not_read(published: Store, damage: str) -> None:
    path = published.verified("fake", IDENTITY) / "deep" / "a.txt"
    if damage == "gone":
        path.unlink()
    else:
        path.write_text({"changed": "something else", "same size": "hellp", "cut": "hel"}[damage])
    if isinstance(published, LocalStore):
        with pytest.raises(UserError, match=rf"a\.txt: {GONE if damage == 'gone' else DAMAGED}; .*run again"):
            published.verified("fake", IDENTITY)
    else:
        assert (published.verified("fake", IDENTITY) / "deep" / "a.txt").read_text() == "hello"


def test_two_artifacts_of_the_same_content_are_each_looked_at(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for identity in ("one", "two"):
        staging, manifest = stage_files(store)
        staging.finish(manifest)
        store.publish(staging, manifest.model_copy(update={"identity": identity}))
    store.verified("fake", "one")
    (tmp_path / "fake" / "two" / "deep" / "a.txt").write_text("other")
    with pytest.raises(UserError, match="differs"):
        store.verified("fake", "two")


def test_what_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the artifact is gone"):
        LocalStore(tmp_path).verified("fake", IDENTITY)


def test_a_file_is_read_once_and_again_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "REST_NS", -1)  # as if it had been at rest
    path = tmp_path / "large"
    path.write_bytes(b"a" * 1000)
    before = path.stat()
    first = known_digest(path)
    opened: list[Path] = []
    read = integrity.file_digest
    monkeypatch.setattr(integrity, "file_digest", lambda path: opened.append(path) or read(path))
    assert known_digest(path) == first
    assert opened == []
    path.write_bytes(b"b" * 1000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the size and the time of before, but not the change's
    assert known_digest(path) != first
    assert opened == [path]


def test_what_was_recorded_is_known_where_it_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And linked elsewhere: of the files of all nights, a run reads each once for an artifact, not twice."""
    store = LocalStore(tmp_path / "store")
    monkeypatch.setattr(integrity, "REST_NS", -1)  # as if they had been at rest
    opened: list[Path] = []
    read = integrity.file_digest
    monkeypatch.setattr(integrity, "file_digest", lambda path: opened.append(path) or read(path))
    store.publish(*stage_files(store))
    assert len(opened) == 1
    file = store.verified("fake", IDENTITY) / "deep" / "a.txt"
    assert len(opened) == 1
    os.link(file, tmp_path / "part")  # which changes its change time
    assert store.verified("fake", IDENTITY)
    assert known_digest(tmp_path / "part") == known_digest(file)
    assert len(opened) == 2


def test_many_bytes_that_a_stage_reads_are_read_by_others(published: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.digests, "MANY_BYTES", 1)
    asked: list[str] = []

    def take(files: Sequence[ExternalFile]) -> list[str]:
        asked.extend(file.name for file in files)
        return [file_digest(Path(file.path)) for file in files]

    published.path("fake", IDENTITY)  # fetched, if it lies elsewhere
    folder = published.verified("fake", IDENTITY, take)
    assert asked == ["a.txt"]
    (folder / "deep" / "a.txt").write_text("hellp")
    if isinstance(published, LocalStore):
        with pytest.raises(UserError, match=rf"a\.txt: {DAMAGED}"):
            published.verified("fake", IDENTITY, take)
    assert published.path("fake", IDENTITY) == folder


def test_a_file_that_was_just_written_is_read_each_time(tmp_path: Path) -> None:
    """Two changes within one tick of the file system's clock leave the same stamp: no digest is kept so early."""
    path = tmp_path / "young"
    found = set()
    for number in range(50):
        path.write_text(f"{number:02}")
        found.add(known_digest(path))
    assert len(found) == 50


def test_bytecode_is_no_damage_where_code_was_run_in_place(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("")
    recorded = folder_digests(tmp_path)
    (tmp_path / "code" / "__pycache__").mkdir()
    (tmp_path / "code" / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"x")
    assert differences(tmp_path, recorded, bytecode=True) == []
    assert [each.what for each in differences(tmp_path, recorded)] == [NOT_LISTED]


def test_a_folder_that_cannot_be_read_is_not_empty(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folder_digests(tmp_path / "nowhere")
