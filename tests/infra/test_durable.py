"""What is written whole or not at all is told by the name that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.durable import write_whole
from tests.infra.test_disk import small_files


@pytest.mark.parametrize("name", ["folder", "."])
def test_a_folder_is_no_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        write_whole(tmp_path / name, b"page")
    assert raised.value.filename == str(tmp_path / name)


def test_an_error_names_the_file_that_was_meant_and_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large") as raised, small_files():
        write_whole(tmp_path / "page", bytes(1 << 20))
    assert raised.value.filename == str(tmp_path / "page")
    assert not list(tmp_path.iterdir())
