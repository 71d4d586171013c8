"""A file that has not changed is read once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import fsspec
import pytest

import infra.digests
from infra.digests import DigestCache
from infra.errors import UserError
from infra.storage import ExternalFile, resolve


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the files that were read, in order."""
    paths: list[str] = []
    whole = infra.digests.digest_of

    def noted(file: ExternalFile) -> str:
        paths.append(file.path)
        return whole(file)

    monkeypatch.setattr(infra.digests, "digest_of", noted)
    return paths


@pytest.fixture
def remote() -> Iterator[str]:
    """An address whose file holds ``one``."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/digests/one.txt", b"one")
    yield "memory://digests/one.txt"
    memory.rm("/digests", recursive=True)


def test_many_files_in_order_and_once(tmp_path: Path, read: list[str]) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.txt").write_text(str(number))
    files = resolve([str(tmp_path)])
    with closing(DigestCache(tmp_path / ".digests.db")) as digests:
        wanted = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(40)]
        assert digests.of(files) == wanted
        assert sorted(read) == [file.path for file in files]
    with closing(DigestCache(tmp_path / ".digests.db")) as digests:
        assert digests.of(files) == wanted
        assert len(read) == 40
        (tmp_path / "07.txt").write_text("other")
        changed = digests.of(resolve([str(tmp_path)]))
        assert changed[7] == hashlib.sha256(b"other").hexdigest()
        assert len(read) == 41


def test_a_remote_file_is_known_by_its_version(remote: str, read: list[str]) -> None:
    digest = hashlib.sha256(b"one").hexdigest()
    with closing(DigestCache(None)) as digests:
        file = ExternalFile(remote, "one.txt", 3, version="v1")
        assert digests.of([file]) == digests.of([file]) == [digest]
        assert len(read) == 1
        for size, version in ((3, "v2"), (4, "v1")):
            assert digests.of([ExternalFile(remote, "one.txt", size, version=version)]) == [digest]
        assert len(read) == 3


@pytest.mark.parametrize("version", ["", 'W/"weak"'])
def test_without_a_version_it_is_read_each_time(remote: str, read: list[str], version: str) -> None:
    with closing(DigestCache(None)) as digests:
        file = ExternalFile(remote, "one.txt", 3, version=version)
        digests.of([file])
        digests.of([file])
    assert len(read) == 2


def test_many_bytes_are_read_elsewhere(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.digests, "MANY_BYTES", 9)
    asked: list[list[str]] = []

    def elsewhere(files: Sequence[ExternalFile]) -> list[str]:
        asked.append([file.name for file in files])
        return [f"digest of {file.name}" for file in files]

    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("12345")
    with closing(DigestCache(None)) as digests:
        known = digests.of(resolve([str(tmp_path / "a")]), elsewhere)
        assert (asked, len(read)) == ([], 1), "little is read here"
        assert digests.of(resolve([str(tmp_path)]), elsewhere) == [*known, "digest of b", "digest of c"]
        assert digests.of(resolve([str(tmp_path)]), elsewhere) == [*known, "digest of b", "digest of c"]
        assert (asked, len(read)) == ([["b", "c"]], 1)


def test_a_damaged_memory_begins_anew(tmp_path: Path) -> None:
    memory, file = tmp_path / "digests.db", tmp_path / "a"
    file.write_bytes(b"x")
    memory.write_bytes(b"no database" * 100)
    with closing(DigestCache(memory)) as cache:
        assert cache.of(resolve([str(file)])) == [hashlib.sha256(b"x").hexdigest()]
    memory.unlink()
    memory.mkdir()
    with pytest.raises(UserError, match=r"digests\.db: unable to open .*, or delete it: it only remembers"):
        DigestCache(memory)
