"""Files from outside the store: which are found, in which order, and what is said when none is."""

from __future__ import annotations

import hashlib
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
