"""A name from outside stays within its folder: wherever it comes from, and whatever system it was written for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.manifest import MANIFEST, record_files
from infra.object_store import ObjectStore
from infra.paths import UnsafePathError, file_name, relative_path, within
from infra.store import LocalStore, Store
from tests.infra.test_store import IDENTITY, bucket, stage_files

LEADING_OUT = [
    "../x",
    "../../../../x",
    "a/../../b",
    "a/..",
    "..",
    ".",
    "",
    "/abs/x",
    "//host/share",
    "a//b",
    "a/./b",
    "a/",
    "C:x",
    "C:/x",
    "c:\\x",
    "\\\\host\\share",
    "a\\..\\..\\b",
    "file:///etc/passwd",
    "a\0b",
    "a\nb",
]


@pytest.mark.parametrize("name", LEADING_OUT)
def test_what_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    for refuse in (relative_path, file_name, lambda name: within(tmp_path, name)):
        with pytest.raises(UnsafePathError, match="refused"):
            refuse(name)


@pytest.mark.parametrize("name", ["a", "a/b", ".logs/x", "..a/b..", "a b/ü", "ab:c", "...", "~/x", "%2e%2e/x"])
def test_what_stays_within_is_taken(name: str, tmp_path: Path) -> None:
    assert within(tmp_path, relative_path(name)) == tmp_path / name


def test_a_link_leads_nowhere_else(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    (inside / "here").symlink_to(outside)
    (inside / "up").symlink_to("..")
    for name in ("here/x", "here", "up/outside/x"):
        with pytest.raises(UnsafePathError, match="a link leads out"):
            within(inside, name)


@pytest.fixture(params=["local", "object"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Both kinds of store; the object store's protocol is fsspec's own for local files, conditional puts and all."""
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    return bucket(tmp_path, "scratch")


def rewrite(store: Store, tmp_path: Path, **changes: object) -> Path:
    """Publish an artifact, then have its manifest say something else."""
    if store.find("fake", IDENTITY) is None:
        store.publish(*stage_files(store))
    home = store.local if isinstance(store, LocalStore) else tmp_path / "bucket"
    path = home / "fake" / IDENTITY / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


@pytest.mark.parametrize("name", LEADING_OUT)
def test_a_manifest_names_no_file_outside(store: Store, tmp_path: Path, name: str) -> None:
    rewrite(store, tmp_path, files=[{"path": name, "size": 1, "sha256": "00"}])
    for read in (store.find, store.path if isinstance(store, ObjectStore) else store.verified, store.verified):
        if isinstance(store, ObjectStore):
            store = bucket(tmp_path, "elsewhere")
        with pytest.raises(UserError, match="no valid manifest") as told:
            getattr(store, read.__name__)("fake", IDENTITY)
        assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="no valid manifest"):
        store.manifests("fake")


def test_a_manifest_is_of_the_artifact_it_lies_in(store: Store, tmp_path: Path) -> None:
    rewrite(store, tmp_path, identity="another")
    with pytest.raises(UserError, match="the manifest of fake/another"):
        store.find("fake", IDENTITY)


def test_a_link_in_the_fetched_copy_is_not_written_through(tmp_path: Path) -> None:
    store = bucket(tmp_path, "one")
    store.publish(*stage_files(store))
    elsewhere = bucket(tmp_path, "two")
    prey = tmp_path / "prey"
    prey.mkdir()
    fetched = elsewhere.local / ".fetched" / "fake" / IDENTITY
    fetched.mkdir(parents=True)
    (fetched / "deep").symlink_to(prey)
    with pytest.raises(UserError, match="a link leads out"):
        elsewhere.verified("fake", IDENTITY)
    assert not list(prey.iterdir())


@pytest.mark.parametrize("name", ["a\\b", "C:x", "a\nb"])
def test_a_stage_writes_no_name_that_leads_out_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(UnsafePathError):
        record_files(tmp_path)


def test_a_stage_writes_no_link_out_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="link"):
        record_files(folder)
    (folder / "link").unlink()
    (folder / "folder").symlink_to(tmp_path)
    with pytest.raises(UserError, match="link"):
        record_files(folder)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..\\x"])
def test_runs_notes_and_artifacts_are_asked_for_by_name(store: Store, name: str) -> None:
    for ask in (
        lambda: store.read_run(name),
        lambda: store.write_run(name, {}),
        lambda: store.read_note(name),
        lambda: store.write_note(name, {}),
        lambda: store.delete_note(name),
        lambda: store.find(name, IDENTITY),
        lambda: store.find("fake", name),
        lambda: store.withdraw("fake", name),
        lambda: store.verified("fake", name),
    ):
        with pytest.raises(UnsafePathError):
            ask()
