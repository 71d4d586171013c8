"""A store that does not answer is not an empty one; on a real S3 server behind a proxy that refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.listing import children, expand, read_object
from infra.manifest import MANIFEST
from infra.object_store import ObjectStore
from infra.storage import resolve
from infra.store import LocalStore, Store
from tests.infra.faults import Faults
from tests.infra.test_store import IDENTITY, bucket, stage_files


def questions(store: Store) -> list[Callable[[], object]]:
    return [
        lambda: store.find("fake", IDENTITY),
        lambda: store.verified("fake", IDENTITY),
        lambda: store.manifests("fake"),
        lambda: store.latest("fake"),
        lambda: list(store.artifacts()),
        lambda: store.read_run("r1"),
        lambda: store.runs(),
        lambda: store.read_note("n"),
    ]


@pytest.mark.drill
@pytest.mark.parametrize(("status", "error"), [(403, PermissionError), (404, UserError)])
def test_a_store_that_refuses_is_not_an_empty_one(
    faults: Faults, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    """No rights, no bucket: what is there was not seen to be absent."""
    store = ObjectStore(f"s3://test/{tmp_path.name}", tmp_path / "one")
    store.publish(*stage_files(store))
    store.write_run("r1", {"a": 1})
    store.write_note("n", {"a": 1})
    for ask in questions(store):
        assert ask()
    faults.refuse, faults.status = "/test", status
    for ask in questions(store):
        with pytest.raises(error):
            ask()
    assert faults.refused >= len(questions(store))


@pytest.mark.drill
def test_a_folder_that_cannot_be_listed_is_not_left_out_of_a_glob(faults: Faults, tmp_path: Path) -> None:
    import s3fs

    filesystem = s3fs.S3FileSystem()
    for name in ("a/1.txt", "b/2.txt", "b/deep/3.txt", "b/4.bin"):
        filesystem.pipe_file(f"test/{tmp_path.name}/{name}", b"x")
    pattern = f"s3://test/{tmp_path.name}/*/*.txt"
    assert [Path(file.path).name for file in resolve([pattern])] == ["1.txt", "2.txt"]
    faults.refuse = f"{tmp_path.name}%2Fb%2F"
    with pytest.raises(UserError, match="cannot be reached"):
        resolve([pattern])
    assert faults.refused


def test_globs_are_those_of_fsspec(tmp_path: Path) -> None:
    import fsspec

    for name in ("a/1.txt", "b/2.txt", "b/deep/3.txt", "b/deep/er/4.txt", "b/.hidden.txt", "c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    filesystem = fsspec.filesystem("file")
    for pattern in ("*/*.txt", "b/**/*.txt", "**/*.txt", "b/**", "?/[0-9].txt", "*.txt", "no/*"):
        whole = f"{tmp_path}/{pattern}"
        wanted = sorted(key for key in filesystem.glob(whole) if filesystem.isfile(key))
        assert expand(filesystem, whole) == wanted, pattern


@pytest.fixture(params=["local", "object"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store") if request.param == "local" else bucket(tmp_path, "scratch")


def test_what_is_absent_is_absent(store: Store) -> None:
    assert store.find("fake", IDENTITY) is None
    assert (store.manifests("fake"), store.runs(), list(store.artifacts())) == ([], [], [])
    assert (store.latest("fake"), store.read_run("r1"), store.read_note("n")) == (None, None, None)


@pytest.mark.parametrize("body", ["", "{", "[]", '{"stage": "fake"}', "\x00\x01"])
def test_a_damaged_manifest_is_not_an_absent_one(store: Store, tmp_path: Path, body: str) -> None:
    store.publish(*stage_files(store))
    home = store.local if isinstance(store, LocalStore) else tmp_path / "bucket"
    (home / "fake" / IDENTITY / MANIFEST).write_text(body)
    for ask in (lambda: store.find("fake", IDENTITY), lambda: store.manifests("fake"), lambda: store.latest("fake")):
        with pytest.raises(UserError, match=r"no valid manifest .*delete the artifact's folder") as told:
            ask()
        assert "\n" not in str(told.value)


def test_objects_and_folders_are_told_apart(tmp_path: Path) -> None:
    import fsspec

    filesystem = fsspec.filesystem("file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    assert [(each.name, each.is_folder) for each in children(filesystem, str(tmp_path))] == [
        ("file", False),
        ("folder", True),
    ]
    assert children(filesystem, str(tmp_path / "nowhere")) == []
    assert read_object(filesystem, str(tmp_path / "file")) == b"x"
    assert read_object(filesystem, str(tmp_path / "nowhere")) is None


ASK = """
import os, sys
from pathlib import Path
from infra.store import LocalStore
store = LocalStore(Path(sys.argv[1]))
os.seteuid(65534)
for ask in (lambda: store.find("fake", sys.argv[2]), lambda: store.manifests("fake"), lambda: store.latest("fake"),
            lambda: store.runs(), lambda: list(store.artifacts())):
    try:
        print("answered", ask())
    except PermissionError:
        print("raised")
"""


@pytest.mark.skipif("__import__('os').geteuid() != 0", reason="only root can become somebody without rights")
def test_a_folder_without_rights_is_not_an_empty_one(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    store = LocalStore(tmp_path / "store")
    store.publish(*stage_files(store))
    store.write_run("r1", {"a": 1})
    for name in ("fake", "runs"):
        (store.local / name).chmod(0o700)
    for parent in (store.local, *store.local.parents[:-1]):
        parent.chmod(parent.stat().st_mode | 0o005) if parent.is_relative_to(tmp_path.parent) else None
    command = [sys.executable, "-c", ASK, str(store.local), IDENTITY]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == ["raised"] * 5
