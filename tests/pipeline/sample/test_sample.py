"""Gathering the sample: the same bytes each time, all or nothing, and never over somebody else's files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator

from infra.errors import UserError
from pipeline.sample import gather as sample
from tests.pipeline.corpus import published

HOUSE = Path(__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    """A crawl of some pages, so that a test takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "MOST_PAGES", 30)
        yield


@pytest.fixture(scope="module")
def gathered(few: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A sample, and what gathering it told."""
    lines: list[str] = []
    folder = tmp_path_factory.mktemp("gathered") / "a"
    assert sample.gather(folder, lines.append)
    return folder, lines


def _gather(folder: Path) -> bool:
    return sample.gather(folder, tell=lambda line: None)


def test_twice_gives_the_same_bytes_whatever_the_environment(
    gathered: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, lines = gathered
    assert [line.split(":")[0] for line in lines] == ["sample wiki", "sample book", "sample chat", "sample web"]
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    monkeypatch.setenv("COLUMNS", "33")
    monkeypatch.setenv("HOME", str(tmp_path.with_name("home")))  # pip asks programs that write there
    monkeypatch.chdir(tmp_path)
    assert _gather(Path("deeper/b"))
    assert published(first) == published(tmp_path / "deeper" / "b")
    beside = {path.name for folder in (first.parent, tmp_path) for path in folder.iterdir()}
    assert beside == {"a", "deeper"}, "nothing beside"
    statuses, addresses, bodies = [], [], []
    for record in ArchiveIterator(str(first / "web" / "pydoc.warc.gz")):
        if record.http_headers is not None and record.http_headers.status_code:
            statuses.append(record.http_headers.status_code)
            addresses.append(record.headers["WARC-Target-URI"])
            bodies.append(record.reader.read())
    assert len(statuses) == len(set(addresses)) == 30
    assert {200, 301, 404} <= set(statuses), "a crawl as it comes"
    assert len(set(bodies)) < len(bodies), "with copies"
    text = b"".join(bodies)
    for machine in (str(HOUSE), sys.prefix, sys.base_prefix, str(first.parent), "127.0.0.1:", "at 0x7f"):
        assert machine.encode() not in text


def test_no_page_shows_an_address_in_memory() -> None:
    """The modules whose pages did, in the two ways in which pydoc writes them."""
    command = "from pipeline.sample import site as s; print(*map(s.page, ['difflib', 'ctypes', 'configparser']))"
    pages = {
        subprocess.run([sys.executable, "-c", command], cwd=HOUSE, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(pages) == 1


def test_a_complete_sample_is_left_alone_and_a_damaged_one_made_again(
    gathered: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder = shutil.copytree(gathered[0], tmp_path / "sample")
    before = published(folder)
    stamps = [path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))]
    assert not _gather(folder)
    assert [path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))] == stamps
    (folder / "wiki" / "enwiki.xml.bz2").write_bytes(b"damaged")
    assert _gather(folder)
    assert published(folder) == before
    versions = json.loads((folder / "manifest.json").read_text())["versions"]
    assert sample._is_complete(folder, versions)
    assert not sample._is_complete(folder, versions | {"python": "3.11.0"})


def test_texts_are_made_anew_when_any_code_that_writes_them_changes() -> None:
    here = Path(sample.__file__).parent
    known = {(here / name).resolve() for name in sample.GATHERER}
    assert all(path.is_file() for path in known)
    for path in known:
        imported = re.findall(r"^from (pipeline\.[\w.]+) import", path.read_text(), re.MULTILINE)
        for module in imported:
            assert Path(*here.parents[1].parts, *module.split(".")).with_suffix(".py") in known, f"{path}: {module}"


def test_files_of_somebody_else_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(UserError, match=r"thesis\.txt: not a file of the sample; move it away"):
        _gather(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "ten years of work"


def test_a_killed_gathering_leaves_nothing_half_and_no_server(tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    command = [sys.executable, "-m", "pipeline.sample.gather", str(folder)]
    process = subprocess.Popen(command, cwd=HOUSE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("sample wiki")
    assert process.stdout.readline().startswith("sample book")
    assert process.stdout.readline().startswith("sample chat")
    web = tmp_path / f".sample.{process.pid}" / "web" / "pydoc.warc.gz"
    deadline = time.monotonic() + 60
    while not (web.exists() and web.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children, "the site is being crawled"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not folder.exists()
    deadline = time.monotonic() + 90
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in children), "the site ends with its crawler"
    sample._clear_leftovers(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_living_gathering_beside_is_not_disturbed(tmp_path: Path) -> None:
    (tmp_path / f".sample.{os.getppid()}").mkdir()
    sample._clear_leftovers(tmp_path / "sample")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_wheel_that_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "true")
    for variable in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError, match=r"^gensim==\S+: pip could not fetch it \(.*No matching distribution"):
        _gather(tmp_path / "sample")
    assert not list(tmp_path.iterdir()), "nothing is left"
