"""The store on local disk and on a real S3 server: the same contract on both."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import infra.digests
import infra.object_store
from infra.errors import UserError
from infra.manifest import Manifest, record_files
from infra.object_store import ObjectStore
from infra.open_store import open_store
from infra.settings import Settings
from infra.storage import ExternalFile, open_file, resolve
from infra.store import LocalStore, Staging, Store

IDENTITY = "0123456789abcdef"


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.drill)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    request.getfixturevalue("on_s3")
    return ObjectStore(f"s3://test/{tmp_path.name}", tmp_path / "scratch")


def bucket(folder: Path, scratch: str) -> ObjectStore:
    """An object store whose objects are files: fsspec's own, conditional puts and all, without a server."""
    import fsspec

    return ObjectStore(f"file://{folder}/bucket", folder / scratch, fsspec.filesystem("file", auto_mkdir=True))


def stage_files(store: Store, text: str = "hello") -> tuple[Staging, Manifest]:
    staging = store.staging("fake", IDENTITY)
    staging.prepare("code")
    (staging.artifact / "deep" / ".work").mkdir(parents=True)
    (staging.artifact / "deep" / "a.txt").write_text(text)
    (staging.artifact / ".work").mkdir()
    (staging.artifact / ".work" / "half").write_text("x")
    staging.log.write_text("said")
    files, content = record_files(staging.artifact)
    return staging, Manifest(
        stage="fake",
        version=1,
        identity=IDENTITY,
        config={},
        files=files,
        content=content,
        fingerprint="code",
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        run_id="r",
    )


def test_many_bytes_are_sent_by_others_and_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.object_store, "MANY_BYTES", 1)
    store = bucket(tmp_path, "scratch")
    sent: list[list[str]] = []

    def send(files: Mapping[str, Path]) -> None:
        sent.append(sorted(files))
        for address, path in list(files.items())[len(sent) == 1 :]:  # the first file gets lost once
            target = Path(address.removeprefix("file://"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())

    staging, manifest = stage_files(store)
    store.publish(staging, manifest, send)
    assert [len(each) for each in sent] == [2, 1]
    assert sent[0][0].startswith(f"file://{tmp_path}/bucket/fake/{IDENTITY}/")
    assert (store.path("fake", IDENTITY) / "deep" / "a.txt").read_text() == "hello"
    assert bucket(tmp_path, "elsewhere").verified("fake", IDENTITY)


def test_checksums_of_many_bytes_are_taken_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(bytes(number))
    here = record_files(tmp_path)

    def take(files: Sequence[ExternalFile]) -> list[str]:
        return [f"{file.size:064d}" for file in files]

    assert record_files(tmp_path, take) == here, "few bytes are read here"
    monkeypatch.setattr(infra.digests, "MANY_BYTES", 2)
    assert [file.sha256 for file in record_files(tmp_path, take)[0]] == [f"{number:064d}" for number in range(3)]


def test_published_artifact_is_found_and_read(store: Store) -> None:
    assert store.find("fake", IDENTITY) is None
    staging, manifest = stage_files(store)
    store.publish(staging, manifest)
    assert store.find("fake", IDENTITY) == manifest
    assert store.manifests("fake") == [manifest]
    folder = store.path("fake", IDENTITY)
    assert (folder / "deep" / "a.txt").read_text() == "hello"
    assert (folder / ".logs" / "stage.log").read_text() == "said"
    assert not (folder / ".work").exists()
    assert not staging.folder.exists()


def test_a_trace_is_kept_with_the_log(store: Store) -> None:
    staging, manifest = stage_files(store)
    (staging.folder / "trace-steps-2-3-rank-0.json.gz").write_text("trace")
    store.publish(staging, manifest)
    folder = store.path("fake", IDENTITY)
    assert (folder / ".logs" / "trace-steps-2-3-rank-0.json.gz").read_text() == "trace"
    assert not [record.path for record in manifest.files if "trace" in record.path]


def test_first_to_publish_wins(store: Store) -> None:
    staging, manifest = stage_files(store, "first")
    store.publish(staging, manifest)
    other, late = stage_files(store, "second")
    store.publish(other, late)
    assert store.find("fake", IDENTITY) == manifest


def test_withdrawn_artifact_is_gone(store: Store) -> None:
    store.publish(*stage_files(store))
    store.withdraw("fake", IDENTITY)
    assert store.find("fake", IDENTITY) is None
    assert store.manifests("fake") == []


def test_lease_is_exclusive_and_told(store: Store) -> None:
    order: list[str] = []
    told: list[str] = []
    waits = threading.Event()

    def hear(holder: str) -> None:
        told.append(holder)
        waits.set()

    def second() -> None:
        with store.lease("fake", IDENTITY, hear):
            order.append("second")

    with store.lease("fake", IDENTITY, told.append):
        waiter = threading.Thread(target=second)
        waiter.start()
        assert waits.wait(90)
        order.append("first")
    waiter.join(90)
    assert order == ["first", "second"]
    assert len(told) >= 1
    assert "process" in told[0]


def test_run_records(store: Store) -> None:
    assert store.read_run("r1") is None
    assert store.runs() == []
    store.write_run("r1", {"state": "running"})
    store.write_run("r1", {"state": "completed"})
    store.write_run("r2", {"state": "running"})
    assert store.read_run("r1") == {"state": "completed"}
    assert store.runs() == ["r1", "r2"]


def test_notes_are_found_by_how_their_names_begin(store: Store) -> None:
    assert store.notes("") == []
    for name in ("b-2", "b-1", "a-1"):
        store.write_note(name, {"name": name})
    assert store.notes("b-") == ["b-1", "b-2"]
    (file,) = resolve([store.note_place("b-1")])
    with open_file(file) as stream:
        assert json.load(stream) == {"name": "b-1"}
    store.delete_note("b-1")
    assert store.notes("b-") == ["b-2"]


def test_leftovers_of_other_code_are_not_resumed(store: Store) -> None:
    staging, _ = stage_files(store)
    assert staging.prepare("code")
    assert (staging.artifact / ".work" / "half").exists()
    assert staging.set_aside is None
    assert not staging.prepare("other code")
    assert not (staging.artifact / ".work").exists()
    assert staging.set_aside is not None
    assert (staging.set_aside / "artifact" / ".work" / "half").exists()


def test_work_of_other_code_waits_for_it(store: Store) -> None:
    staging, _ = stage_files(store)
    staging.prepare("other code")
    assert staging.prepare("code")
    assert (staging.artifact / ".work" / "half").exists()
    staging.prepare("other code")
    staging.remove()
    assert not list(staging.folder.parent.glob(f"{staging.folder.name}*"))


@pytest.mark.drill
@pytest.mark.usefixtures("on_s3")
def test_damage_on_s3_is_noticed(tmp_path: Path) -> None:
    import s3fs

    address = f"s3://test/{tmp_path.name}"
    store = ObjectStore(address, tmp_path / "one")
    store.publish(*stage_files(store))
    s3fs.S3FileSystem().pipe_file(f"{address}/fake/{IDENTITY}/deep/a.txt", b"hellp")
    elsewhere = ObjectStore(address, tmp_path / "two")
    with pytest.raises(UserError, match=r"a\.txt: the checksum differs"):
        elsewhere.path("fake", IDENTITY)


@pytest.mark.drill
@pytest.mark.usefixtures("on_s3")
@pytest.mark.parametrize("harm", ["", "written over", "gone"])
def test_what_an_earlier_artifact_holds_is_copied_by_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    import s3fs

    address = f"s3://test/{tmp_path.name}"
    store = ObjectStore(address, tmp_path / "one")
    store.publish(*stage_files(store, "as the night before"))
    if harm:
        other = s3fs.S3FileSystem()
        earlier = f"{address}/fake/{IDENTITY}/deep/a.txt"
        other.rm_file(earlier) if harm == "gone" else other.pipe_file(earlier, b"as no night before.")
    sent: list[str] = []

    def send(files: Mapping[str, Path]) -> None:
        sent.extend(name.removeprefix(f"{address}/fake/second/") for name in files)
        for name, path in files.items():
            s3fs.S3FileSystem().put_file(str(path), name)

    monkeypatch.setattr(infra.object_store, "MANY_BYTES", 0)
    staging, manifest = stage_files(store, "as the night before")
    (staging.artifact / "new.txt").write_text("of this night")
    files, content = record_files(staging.artifact)
    second = manifest.model_copy(update={"identity": "second", "files": files, "content": content})
    store.publish(staging, second, send)
    assert sorted(sent) == [".logs/stage.log", *(["deep/a.txt"] if harm else []), "new.txt"]
    folder = ObjectStore(address, tmp_path / "two").verified("fake", "second")
    assert (folder / "deep" / "a.txt").read_text() == "as the night before"
    assert not (tmp_path / "two" / ".fetched" / "fake" / "second" / ".logs" / "objects.json").exists()


def test_unwritable_root_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="cannot write to the store") as raised:
        open_store(Settings(root=str(blocked / "store")))
    assert "\n" not in str(raised.value)


def test_unpublished_folder_is_no_artifact(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "fake" / IDENTITY).mkdir(parents=True)
    assert store.find("fake", IDENTITY) is None
    staging, manifest = stage_files(store)
    store.publish(staging, manifest)
    assert store.find("fake", IDENTITY) == manifest


def test_the_latest_is_found_without_reading_the_others(store: Store) -> None:
    assert store.latest("fake") is None
    _, manifest = stage_files(store)
    for number in (1, 2, 3):
        staging = store.staging("fake", f"{number}")
        staging.prepare("code")
        store.publish(staging, manifest.model_copy(update={"identity": f"{number}", "files": ()}))
    found = store.latest("fake")
    assert found is not None
    assert found.identity == "3"
