"""What a file system that takes no more is called, whichever library it stopped."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from infra.disk import disk_problem, is_full

LITTLE = 4096
"""Bytes that a file may have."""


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """The kernel's own limit, as `ulimit -f` sets it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LITTLE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _write_bytes(path: Path) -> None:
    with small_files():
        path.write_bytes(bytes(3 * LITTLE))


def _write_tensors(path: Path) -> None:
    with small_files():
        save_file({"weights": np.zeros(3 * LITTLE)}, path)


def _write_array_to_a_full_device(path: Path) -> None:
    with Path("/dev/full").open("wb") as handle:
        np.zeros(3 * LITTLE).tofile(handle)


def _copy(path: Path) -> None:
    path.write_bytes(bytes(3 * LITTLE))
    with small_files():
        shutil.copyfile(path, path.with_name("copy"))


def _write_rows(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as rows:
        rows.execute("pragma max_page_count=1")
        rows.execute("create table told (text)")


def _write_rows_that_the_system_refuses(path: Path) -> None:
    with small_files(), contextlib.closing(sqlite3.connect(path)) as rows:
        rows.execute("create table told (text)")
        rows.execute("insert into told values (zeroblob(100000))")
        rows.commit()


def _write_where_only_reading_is_allowed(path: Path) -> None:
    path.touch()
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as rows:
        rows.execute("create table told (text)")


def _write_to_a_full_device(path: Path) -> None:
    with Path("/dev/full").open("wb") as handle:
        handle.write(b"x")


def _pass_on(path: Path) -> None:
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    except OSError as error:
        raise RuntimeError("task 3 failed") from error


@pytest.mark.parametrize(
    ("write", "told", "full"),
    [
        (_write_bytes, "place: larger than a file may be here (ulimit -f", False),
        (_write_tensors, "place: larger than a file may be here (ulimit -f", False),
        (_write_array_to_a_full_device, "place: the disk is full; free space and run the same command", True),
        (_copy, "copy: larger than a file may be here (ulimit -f", False),
        (_write_rows, "place: the disk is full; free space and run the same command", True),
        (_write_to_a_full_device, "place: the disk is full; free space and run the same command", True),
        (_write_rows_that_the_system_refuses, "place: the disk cannot read or write it", False),
        (_write_where_only_reading_is_allowed, "place: the file system is read-only; make it writable", False),
        (_pass_on, "file: the disk is full; free space and run the same command", True),
    ],
)
def test_it_is_one_line_with_a_remedy(write: Callable[[Path], None], told: str, full: bool, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r".") as raised:
        write(tmp_path / "file")
    line = disk_problem(raised.value, tmp_path / "place") or ""
    assert line.startswith(f"{tmp_path / told.partition(':')[0]}:{told.partition(':')[2]}")
    assert "\n" not in line
    assert is_full(raised.value) == full


def test_what_is_forbidden_is_the_file_systems_where_a_file_is_named() -> None:
    named = PermissionError(errno.EACCES, "Permission denied", "store/x")
    assert disk_problem(named, "place") == (
        "store/x: Permission denied; see that it may be read and written, or choose another folder with --root"
    )
    assert disk_problem(PermissionError(errno.EPERM, "Operation not permitted"), "place") is None


def test_a_fault_of_ours_is_none_of_the_disk() -> None:
    assert disk_problem(FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "place") is None
    assert disk_problem(RuntimeError("No space"), "place") is None
