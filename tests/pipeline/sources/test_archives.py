"""Archives whose headers or members would cost more than the archive."""

from __future__ import annotations

import gzip
import io
import resource
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from infra.storage import ExternalFile
from pipeline.sections import CodeSource
from pipeline.sources import archives
from pipeline.sources.code import read
from tests.pipeline.hostile import cpu_seconds
from tests.pipeline.hostile_files import extended, header, member, overlapping
from tests.pipeline.sources.raw import read_all

CODE = b"def add(left, right):\n    return left + right\n" * 3
END = bytes(1024)


def _read(tmp_path: Path, name: str, content: bytes) -> tuple[list[tuple[str, str | None]], str]:
    path = tmp_path / "file"
    path.write_bytes(content)
    found, damage = read_all(read, CodeSource(paths=("x",)), ExternalFile(str(path), name, len(content)))
    return [(document.metadata["path"], rule) for document, rule in found], damage


def _pax(**fields: str) -> bytes:
    data = b""
    for key, value in fields.items():
        record = f" {key}={value}\n".encode()
        length = len(record) + 1
        while len(str(length)) + len(record) != length:
            length += 1
        data += str(length).encode() + record
    return extended(tarfile.XHDTYPE, data)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_of_hundreds_of_megabytes_is_refused_unread(tmp_path: Path, kind: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", compresslevel=1, mtime=0) as packed:
        packed.write(member("a.py", CODE) + header(kind, 300_000_000))
        for _ in range(300):
            packed.write(b"1" * 1_000_000)
    files, damage = _read(tmp_path, "a.tar.gz", content.getvalue())
    assert files == [("a.py", None)]
    assert "a header of 300000000 bytes" in damage
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_names_and_sizes_of_extension_headers_hold(tmp_path: Path) -> None:
    long = "/".join(["folder"] * 40) + "/café.py"
    content = (
        _pax(path=long, mtime="1.5")
        + member("short.py", CODE)
        + extended(tarfile.XGLTYPE, b"12 comment=\n")
        + extended(tarfile.GNUTYPE_LONGNAME, b"other/" * 30 + b"b.py\0")
        + member("short.py", CODE)
        + _pax(size=str(len(CODE)))
        + header(tarfile.REGTYPE, 0, "c.py")
        + CODE
        + bytes(-len(CODE) % 512)
        + END
    )
    assert _read(tmp_path, "a.tar", content) == ([(long, None), ("other/" * 30 + "b.py", None), ("c.py", None)], "")


def test_what_tarfile_writes_is_read_in_every_format(tmp_path: Path) -> None:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=form) as archive:
            for name in ("a.py", "folder/" * 14 + "b.py", "ü.py"):
                info = tarfile.TarInfo(name)
                info.size = len(CODE)
                archive.addfile(info, io.BytesIO(CODE))
            archive.addfile(tarfile.TarInfo("empty.py"))
        files, damage = _read(tmp_path, "a.tar", data.getvalue())
        assert (files, damage) == (
            [("a.py", None), ("folder/" * 14 + "b.py", None), ("ü.py", None), ("empty.py", "too_short")],
            "",
        )


def test_archives_one_after_another(tmp_path: Path) -> None:
    both = member("a.py", CODE) + END + member("b.py", CODE) + END
    assert _read(tmp_path, "a.tar", both) == ([("a.py", None), ("b.py", None)], "")
    assert _read(tmp_path, "a.tar", member("a.py", CODE) + END + b"x" * 600) == ([("a.py", None)], "")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (header(tarfile.GNUTYPE_SPARSE, 0, "a.py"), "failure/archive"),
        (_pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}) + member("a.py", CODE), "failure/archive"),
        (extended(tarfile.GNUTYPE_LONGNAME, b"a" * 5000 + b".py") + member("a.py", CODE), "language"),
        (extended(tarfile.GNUTYPE_LONGNAME, b"a/" * 20_000 + b"a.py") + member("a.py", CODE), "failure/archive"),
    ],
)
def test_what_is_not_read_costs_itself(tmp_path: Path, content: bytes, what: str) -> None:
    files, damage = _read(tmp_path, "a.tar", content + member("b.py", CODE) + END)
    assert [rule for _, rule in files] in ([what, None], ["language", None])
    assert not damage
    assert all(len(path) <= archives.PATH for path, _ in files)


def test_a_map_of_a_sparse_file_has_an_end(tmp_path: Path) -> None:
    first = bytearray(header(tarfile.GNUTYPE_SPARSE, 0, "a.py"))
    first[482] = 1
    checksum = sum(first[:148]) + sum(first[156:]) + 8 * 32
    first[148:156] = f"{checksum:06o}\0 ".encode()
    block = bytes(504) + b"\1" + bytes(7)
    assert "map of a sparse file" in _read(tmp_path, "a.tar", bytes(first) + block * 1000)[1]


def test_members_over_each_other_are_read_once(tmp_path: Path) -> None:
    content = overlapping(1000, 900_000)
    assert len(content) < 100_000
    begin = cpu_seconds()
    files, damage = _read(tmp_path, "a.zip", content)
    assert cpu_seconds() - begin < 2
    assert not damage
    assert [rule for _, rule in files] == [None] + ["failure/archive"] * 999


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_would_be_decoded_whole_are_refused(tmp_path: Path, method: int) -> None:
    assert _read(tmp_path, "a.zip", overlapping(1, 90_000, method)) == ([("a.py", "failure/archive")], "")


def test_a_list_of_files_beyond_all_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "DIRECTORY", 1000)
    assert "more than 1000 bytes" in _read(tmp_path, "a.zip", overlapping(100, 600))[1]


def test_all_members_together_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"{number}.py", CODE * 1000)
    monkeypatch.setattr(archives, "most_decoded", lambda size: 300_000)
    files: Any = _read(tmp_path, "a.zip", data.getvalue())[0]
    assert [rule for _, rule in files] == [None, None, "too_large", "failure/archive", "failure/archive"]
