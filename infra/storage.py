"""Files from outside the store: local paths, folders, globs, ``s3://`` and ``https://`` addresses, in one order.

What a file is called and what it holds counts; where it lies does not.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, cast

from infra.errors import UserError
from infra.listing import expand

__all__ = ["ExternalFile", "digest_of", "open_file", "open_seekable", "resolve"]

CHUNK = 1 << 20


@dataclass(frozen=True)
class ExternalFile:
    """One file that a recipe names, directly or by its folder."""

    path: str
    """Absolute path or address."""
    name: str
    """Path below the folder or glob that the recipe names: what identities and document ids may contain."""
    size: int
    version: str = ""
    """Version or ETag that the server names; empty where it names none, and of local files."""

    @property
    def is_remote(self) -> bool:
        return "://" in self.path


def resolve(paths: Sequence[str]) -> list[ExternalFile]:
    """Every file that `paths` name, each once, folders with all below them; hidden files are left out.

    Raises:
        UserError: a path names nothing, or cannot be read.
    """
    found: dict[str, ExternalFile] = {}
    for path in paths:
        files = _remote(path) if "://" in path else _local(path)
        if not files:
            if "://" in path:
                raise UserError(f"{path}: no such file, or redirects lead in a circle; check the address")
            kind = "folder has no files in it" if Path(path).is_dir() else "no such file"
            raise UserError(f"{path}: {kind}; correct the path in the recipe (it is relative to {Path.cwd()})")
        for file in files:
            found.setdefault(file.path, file)
    return list(found.values())


def _local(path: str) -> list[ExternalFile]:
    base = Path(path).expanduser()
    if base.is_file():
        return [_file(base, base.name)]
    if base.is_dir():
        below = sorted(item for item in base.rglob("*") if item.is_file() and not _hidden(item.relative_to(base)))
        return [_file(item, item.relative_to(base).as_posix()) for item in below]
    return [
        file
        for match in sorted(glob.glob(str(base), recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
        for file in _local(match)
    ]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in path.parts)


def _file(path: Path, name: str) -> ExternalFile:
    try:
        with path.open("rb"):
            return ExternalFile(str(path.absolute()), name, path.stat().st_size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def _filesystem(path: str) -> tuple[Any, str]:
    import fsspec

    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(path))
    except (ImportError, ValueError) as error:
        raise UserError(f"{path}: {error}; use a local path, s3:// or https://") from None


def _remote(path: str) -> list[ExternalFile]:
    filesystem, key = _filesystem(path)
    try:
        if path.startswith(("http://", "https://")):  # no folders: asking for one would fetch the file for its links
            keys = [key] if filesystem.exists(key) else []
        elif any(sign in path for sign in "*?["):
            keys = expand(filesystem, key)
        elif filesystem.isdir(key):
            below = len(key.rstrip("/")) + 1
            keys = sorted(item for item in filesystem.find(key) if not _hidden(Path(item[below:])))
        else:
            keys = [key] if filesystem.exists(key) else []
        base = key.rstrip("/") + "/"
        found = [(item, filesystem.info(item)) for item in keys]
        return [
            ExternalFile(
                filesystem.unstrip_protocol(item),
                item.removeprefix(base) if item.startswith(base) else item.rsplit("/", 1)[-1],
                int(facts.get("size") or 0),
                version=str(facts.get("VersionId") or facts.get("ETag") or ""),
            )
            for item, facts in found
        ]
    except OSError as error:
        raise UserError(f"{path}: cannot be reached ({error}); check the address and AWS_*") from None
    except Exception as error:  # aiohttp's, of which redirects in a circle are one, are no OSErrors
        if type(error).__module__.partition(".")[0] != "aiohttp":
            raise
        raise UserError(f"{path}: cannot be reached ({type(error).__name__}); check the address") from None


def open_file(file: ExternalFile) -> IO[bytes]:
    """The bytes of a file, as a stream."""
    if not file.is_remote:
        return Path(file.path).open("rb")
    filesystem, key = _filesystem(file.path)
    if _is_streamed(file):
        return cast("IO[bytes]", filesystem.open(key, "rb", block_size=0))
    return cast("IO[bytes]", filesystem.open(key, "rb"))


def open_seekable(file: ExternalFile) -> IO[bytes]:
    """The same for formats that are read from their end: what can only be had whole is fetched first."""
    if not _is_streamed(file):
        return open_file(file)
    with contextlib.ExitStack() as failing:
        local = cast("IO[bytes]", failing.enter_context(tempfile.TemporaryFile()))
        with open_file(file) as stream:
            shutil.copyfileobj(stream, local, CHUNK)
        local.seek(0)
        failing.pop_all()
    return local


def _is_streamed(file: ExternalFile) -> bool:
    return file.path.startswith(("http://", "https://")) and not _sends_ranges(file.path)


@cache
def _sends_ranges(address: str) -> bool:
    """Whether a web server sends parts of a file: asked for one byte, it says so. What its headers promise is no help.

    Raises:
        OSError: the server does not answer, or not with the file. Whether a file has parts must not depend on that.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers={"Range": "bytes=0-0"})) as answer:
            return int(answer.status) == HTTPStatus.PARTIAL_CONTENT
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # of an empty file
            raise
        return False


def digest_of(file: ExternalFile) -> str:
    """SHA-256 of a file's bytes, in hex."""
    value = hashlib.sha256()
    with open_file(file) as stream:
        while chunk := stream.read(CHUNK):
            value.update(chunk)
    return value.hexdigest()
