"""Files from outside the store: which are found, in which order, and what is said when none is."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage import digest_of, open_file, resolve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / ".cache" / "corpus"  # a hidden folder above is nobody's business
    for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden", ".git/config", "sub/.DS_Store"):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return base


def _names(*paths: str) -> list[str]:
    return [file.name for file in resolve(paths)]


def test_a_folder_stands_for_all_below_it_but_hidden_files(folder: Path) -> None:
    files = resolve([str(folder)])
    assert [file.name for file in files] == ["a.txt", "b.txt", "sub/c.txt"]
    assert [file.size for file in files] == [5, 5, 9]
    assert all(Path(file.path).is_absolute() for file in files)


def test_globs_single_files_and_order(folder: Path) -> None:
    assert _names(f"{folder}/*.txt") == ["a.txt", "b.txt"]
    assert _names(f"{folder}/**/*.txt") == ["a.txt", "b.txt", "c.txt"]
    assert _names(f"{folder}/b.txt", f"{folder}/a.txt") == ["b.txt", "a.txt"]
    assert _names(f"{folder}/b.txt", str(folder)) == ["b.txt", "a.txt", "sub/c.txt"], "each file once"


@pytest.mark.timeout(20)
def test_links_that_lead_back_up_are_followed_once(folder: Path) -> None:
    for name in ("up", "again"):  # with the two of them 2^40 ways lead down
        (folder / "sub" / name).symlink_to("..")
    (folder / "beside").symlink_to("sub")
    (folder / "itself").symlink_to("itself")
    assert _names(str(folder)) == ["a.txt", "b.txt", "beside/c.txt"]
    assert _names(f"{folder}/**/*.txt") == ["a.txt", "b.txt", "c.txt"]


def test_a_folder_behind_a_link_is_read(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    (other / "d.txt").write_text("d")
    (folder / "sub" / "linked").symlink_to(other)
    for path in (str(folder), f"{folder}/**/*.txt", f"{folder}/*/*/d.txt", f"{folder}/s*/linked"):
        assert "d.txt" in [Path(name).name for name in _names(path)]


def test_links_to_nothing_and_pipes_are_no_files(folder: Path) -> None:
    (folder / "gone.txt").symlink_to("/nowhere/gone.txt")
    os.mkfifo(folder / "pipe.txt")
    assert _names(f"{folder}/*.txt") == ["a.txt", "b.txt"]
    assert _names(str(folder)) == ["a.txt", "b.txt", "sub/c.txt"]
    with pytest.raises(UserError, match=r"gone\.txt: no such file"):
        resolve([f"{folder}/gone.txt"])


def test_names_with_the_signs_of_patterns(folder: Path) -> None:
    (folder / "old [1]").mkdir()
    (folder / "old [1]" / "d*.txt").write_text("d")
    for path in ("old [1]", "old [1]/d*.txt", f"{glob.escape('old [1]')}/*.txt"):
        assert [Path(name).name for name in _names(f"{folder}/{path}")] == ["d*.txt"]
    assert _names(f"{folder}/.h*") == [".hidden"]


def test_a_folder_that_may_not_be_listed_is_named(folder: Path) -> None:
    """As a user without root's rights sees it: files of it would be missing, and nobody would know."""
    (folder / "sub").chmod(0)
    ask = """
import sys
from infra.errors import UserError
from infra.storage import resolve
for path in sys.argv[1:]:
    try:
        print("read", resolve([path]))
    except UserError as told:
        print(told)
"""
    powers = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    paths = [str(folder), f"{folder}/**/*.txt", f"{folder}/sub/c.txt", f"{folder}/sub/*.txt"]
    told = subprocess.run([*powers, sys.executable, "-c", ask, *paths], capture_output=True, text=True, check=True)
    (folder / "sub").chmod(0o700)
    for line in told.stdout.splitlines():
        assert re.search(r"sub[^:]*: cannot be read \(Permission denied\); check its permissions", line)
    assert told.stdout.count("\n") == len(paths)


def test_relative_paths_name_the_same_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert resolve(["corpus"]) == resolve([str(folder)])


def test_what_is_not_there_is_named_with_a_remedy(folder: Path) -> None:
    for path in (f"{folder}/none.txt", f"{folder}/*.warc"):
        with pytest.raises(UserError) as problem:
            resolve([str(folder), path])
        assert str(problem.value).startswith(f"{path}: no such file; correct the path")
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="empty: folder has no files in it"):
        resolve([f"{folder}/empty"])
    with pytest.raises(UserError, match="use a local path, s3:// or https://"):
        resolve(["nonsense://x/y"])


def test_content_and_digest(folder: Path) -> None:
    (file,) = resolve([f"{folder}/a.txt"])
    with open_file(file) as stream:
        assert stream.read() == b"a.txt"
    assert digest_of(file) == hashlib.sha256(b"a.txt").hexdigest()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_web_addresses(address: str) -> None:
    (file,) = resolve([f"{address}/sub/c.txt"])
    assert (file.path, file.name, file.size, file.is_remote) == (f"{address}/sub/c.txt", "c.txt", 9, True)
    assert digest_of(file) == hashlib.sha256(b"sub/c.txt").hexdigest()
    with pytest.raises(UserError, match="no such file"):
        resolve([f"{address}/none.txt"])


class _Circle(_Quiet):
    """Two addresses that each send to the other."""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/b" if self.path == "/a" else "/a")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815


def test_redirects_in_a_circle_are_the_users_error() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Circle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UserError, match="redirects lead in a circle; check the address"):
            resolve([f"http://127.0.0.1:{server.server_port}/a"])
        server.shutdown()


@pytest.mark.drill
@pytest.mark.usefixtures("on_s3")
def test_s3_folders_globs_and_files() -> None:
    import s3fs

    remote = s3fs.S3FileSystem()
    remote.mkdir("raw")
    for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden"):
        remote.pipe(f"raw/corpus/{name}", name.encode())
    files = resolve(["s3://raw/corpus"])
    assert [(file.name, file.size) for file in files] == [("a.txt", 5), ("b.txt", 5), ("sub/c.txt", 9)]
    assert all(file.version for file in files)
    assert [file.path for file in resolve(["s3://raw/corpus/*.txt"])] == [file.path for file in files[:2]]
    assert digest_of(files[2]) == hashlib.sha256(b"sub/c.txt").hexdigest()
    assert resolve(["s3://raw/corpus/a.txt"])[0].name == "a.txt"
    with pytest.raises(UserError, match="no such file"):
        resolve(["s3://raw/none"])
