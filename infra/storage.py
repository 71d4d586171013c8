"""Files from outside the store: local paths, folders, globs, ``s3://`` and ``https://`` addresses, in one order.

What a file is called and what it holds counts; where it lies does not.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

from infra.errors import UserError, is_of_object_store
from infra.listing import expand
from infra.web_files import MOST_BYTES, FileFacts, TooLargeError, look, open_ranges, open_whole

__all__ = ["ExternalFile", "digest_of", "files_below", "open_file", "open_seekable", "resolve"]

CHUNK = 1 << 20
KEPT_FREE = 512 << 20
"""Bytes of the disk that fetching a file leaves to others."""


@dataclass(frozen=True)
class ExternalFile:
    """One file that a recipe names, directly or by its folder."""

    path: str
    """Absolute path or address."""
    name: str
    """Path below the folder or glob that the recipe names: what identities and document ids may contain."""
    size: int
    """0 where a web server does not tell."""
    version: str = ""
    """Version or ETag that the server names; empty where it names none, and of local files."""
    most: int = MOST_BYTES
    """Most bytes read of a file whose size is not told."""

    @property
    def is_remote(self) -> bool:
        return "://" in self.path


def resolve(paths: Sequence[str], most: int = MOST_BYTES) -> list[ExternalFile]:
    """Every file that `paths` name, each once, folders with all below them; hidden files are left out.

    Args:
        most: bytes that a file behind http or https may have.

    Raises:
        UserError: a path names nothing, cannot be read, or is too large.
    """
    found: dict[str, ExternalFile] = {}
    for path in paths:
        files = _web(path, most) if _is_web(path) else _remote(path) if "://" in path else _local(path)
        if not files:
            if "://" in path:
                raise UserError(f"{path}: no such file, or redirects lead in a circle; check the address")
            kind = "folder has no files in it" if Path(path).is_dir() else "no such file"
            what = "write $HOME and its like out, or ~" if "$" in path else "correct the path in the recipe"
            raise UserError(f"{path}: {kind}; {what} (it is relative to {Path.cwd()})")
        for file in files:
            found.setdefault(file.path, file)
    return list(found.values())


def _is_web(path: str) -> bool:
    return path.startswith(("http://", "https://"))


def _web(address: str, most: int) -> list[ExternalFile]:
    """The file behind an address of the web, where there are no folders."""
    try:
        facts = look(address)
    except OSError as error:
        raise UserError(f"{address}: cannot be reached ({error}); check the address") from None
    if facts is None:
        return []
    if (facts.size or 0) > most:
        raise UserError(f"{address}: has {facts.size} bytes, and {most} are allowed; raise extract.max_download_bytes")
    return [ExternalFile(address, address.rsplit("/", 1)[-1], facts.size or 0, facts.etag, most)]


def _local(path: str) -> list[ExternalFile]:
    try:
        base = Path(path).expanduser()
    except RuntimeError:  # ~nobody
        return []
    try:
        if glob.has_magic(path) and not base.exists():
            return [file for match in _expand(base) for file in _at(match)]
        return _at(base)
    except OSError as error:
        where = error.filename or path
        raise UserError(f"{where}: cannot be read ({error.strerror}); check its permissions") from None


def _at(base: Path) -> list[ExternalFile]:
    """A file, or all files of a folder; links that lead nowhere, pipes and devices are none."""
    if base.is_dir():
        return [_file(item, item.relative_to(base).as_posix()) for item in files_below(base)]
    return [_file(base, base.name)] if base.is_file() else []


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder but hidden ones, in order. A folder that links lead to again is read once.

    Raises:
        OSError: a folder cannot be listed, so that files would be missing unnoticed.
    """
    for path in _below(folder, set()):
        if path.is_file():
            yield path


def _below(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """A folder and all that stands below it, folders before what is in them."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    yield folder
    for path in _visible(folder):
        if path.is_dir():
            yield from _below(path, seen)
        else:
            yield path


def _visible(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not _hidden(Path(path.name))), key=lambda path: path.name)


def _expand(pattern: Path) -> list[Path]:
    """What a pattern names, in order. `**` stands for any number of folders."""
    parts = pattern.parts
    first = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    found = {Path(*parts[:first])}
    for part in parts[first:]:
        folders = [path for path in found if path.is_dir()]
        if part == "**":
            found = {below for folder in folders for below in _below(folder, set()) if below.is_dir()}
        elif glob.has_magic(part):
            listed = (path for folder in folders for path in _listed(folder, hidden=part.startswith(".")))
            found = {path for path in listed if fnmatch.fnmatchcase(path.name, part)}
        else:
            found = {folder / part for folder in folders if (folder / part).exists()}
    return sorted(found, key=str)


def _listed(folder: Path, *, hidden: bool) -> list[Path]:
    return list(folder.iterdir()) if hidden else _visible(folder)


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
    except OSError as error:  # some connect at once
        raise UserError(f"{path}: cannot be reached ({error}); check the address") from None


def _remote(path: str) -> list[ExternalFile]:
    filesystem, key = _filesystem(path)
    try:
        if any(sign in path for sign in "*?["):
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
    except Exception as error:
        if not isinstance(error, OSError) and not is_of_object_store(error):
            raise
        raise UserError(f"{path}: cannot be reached ({error}); check the address and AWS_*") from None


def open_file(file: ExternalFile) -> IO[bytes]:
    """The bytes of a file, as a stream.

    Raises:
        UserError: a local file is gone, or may not be read.
        OSError: what is elsewhere does not answer.
    """
    if not file.is_remote:
        try:
            return Path(file.path).open("rb")
        except OSError as error:
            raise UserError(
                f"{file.path}: cannot be read ({error.strerror}); put it back, or see who may read it"
            ) from None
    if not _is_web(file.path):
        filesystem, key = _filesystem(file.path)
        return cast("IO[bytes]", filesystem.open(key, "rb"))
    if _is_streamed(file):
        return open_whole(file.path, file.size or file.most)
    return open_ranges(file.path, file.size)


def open_seekable(file: ExternalFile) -> IO[bytes]:
    """The same for formats that are read from their end: what can only be had whole is fetched first.

    Raises:
        UserError: the disk has no room for it.
    """
    if not _is_streamed(file):
        return open_file(file)
    with contextlib.ExitStack() as failing:
        local = cast("IO[bytes]", failing.enter_context(tempfile.TemporaryFile()))
        _check_room(file, file.size)
        with open_file(file) as stream:
            while chunk := stream.read(CHUNK):
                _check_room(file, len(chunk))
                local.write(chunk)
        local.seek(0)
        failing.pop_all()
    return local


def _check_room(file: ExternalFile, size: int) -> None:
    folder = tempfile.gettempdir()
    if shutil.disk_usage(folder).free - size < KEPT_FREE:
        raise UserError(
            f"{file.path}: {folder} has no room for it, for the server sends it only whole; "
            "make room, set TMPDIR, or fetch it by other means and name the local file"
        )


def _is_streamed(file: ExternalFile) -> bool:
    return _is_web(file.path) and (not file.size or not _facts(file.path).ranges)


@cache
def _facts(address: str) -> FileFacts:
    """What the web server tells of a file, asked once in a process.

    Raises:
        OSError: the server does not answer, or not with the file. Whether a file has parts must not depend on that.
    """
    if (facts := look(address)) is None:
        raise FileNotFoundError(address)
    return facts


def digest_of(file: ExternalFile) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        UserError: a web server sends more than it may.
    """
    value = hashlib.sha256()
    try:
        with open_file(file) as stream:
            while chunk := stream.read(CHUNK):
                value.update(chunk)
    except TooLargeError as error:
        raise UserError(f"{file.path}: {error}") from None
    return value.hexdigest()
