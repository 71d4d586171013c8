"""Files in tar and zip archives, each read within bounds that an archive cannot talk its reader out of.

Python's `tarfile` reads headers as long as they claim to be, and keeps every one; the pattern it cuts them with takes
the square of their length. So the headers are walked here, with its `TarInfo` for what is in a block. Its `zipfile`
decodes members that lie over each other as often as they are listed, and whole where they are not deflated.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from typing import IO, Any, cast

from pipeline.sources.broken import ARCHIVE_ERRORS, is_of_the_file
from pipeline.sources.stream import Stream, most_decoded

__all__ = ["Content", "ZipArchive", "tar_files"]

Content = bytes | Exception | None
"""A file's bytes, or what is wrong with it, or None where it is larger than is wanted."""

BLOCK = 512
HEADER = 1 << 16
"""Most bytes of an extension header: a path is no longer than 4 KiB, and an attribute's value no longer than this."""
PATH = 4096
"""Most characters of a path (PATH_MAX of Linux)."""
DIRECTORY = 16 << 20
"""Most bytes of a zip archive's list of files, some 200,000 of them: in memory it takes twenty times as much."""
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_NAMED = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_LOCAL_HEADER = 30


def tar_files(stream: Stream, most: int) -> Iterator[tuple[str, Content]]:
    """Path and content of each file of a tar archive, or of several one after another; None in place of more than
    `most` bytes.

    Raises:
        tarfile.TarError: a header is malformed or too long, or the archive breaks off.
    """
    told: dict[str, bytes] = {}  # by the headers before the one of the file itself
    some = ended = False
    while block := stream.read(BLOCK):
        if len(block) == BLOCK and not block.strip(b"\0"):
            some = ended = True
            continue
        some = True
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            if ended:  # what follows an archive need not be another
                return
            raise
        ended = False
        if info.size < 0:
            raise tarfile.ReadError("a file of less than no bytes")
        if info.type in (*_EXTENDED, *_NAMED, tarfile.XGLTYPE):
            header = _header(stream, info.size)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                told["path"] = header.partition(b"\0")[0]
            elif info.type in _EXTENDED:
                told |= _fields(header)
            continue
        yield from _file(stream, info, block, told, most)
        told = {}
    if not some:
        raise tarfile.ReadError("empty file")


def _file(
    stream: Stream, info: tarfile.TarInfo, block: bytes, told: dict[str, bytes], most: int
) -> Iterator[tuple[str, Content]]:
    """The file whose header `block` is; nothing for a folder, a link or a device."""
    name = told["path"].decode("utf-8", "surrogateescape") if "path" in told else info.name
    size = _size(told, info)
    is_sparse = info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in told)
    if info.type == tarfile.GNUTYPE_SPARSE:
        _pass_map(stream, block)
    if not info.isreg():
        if info.type not in tarfile.SUPPORTED_TYPES:
            _skip(stream, size)
        return
    if is_sparse or len(name) > PATH or size > most:
        _skip(stream, size)
        problem = "a sparse file" if is_sparse else f"a path of {len(name)} characters"
        yield name[:PATH], tarfile.ExtractError(problem) if is_sparse or len(name) > PATH else None
        return
    content = stream.read(size)
    if len(content) < size:
        raise tarfile.ReadError("unexpected end of data")
    yield name, content
    _skip(stream, -size % BLOCK, padded=False)


def _size(told: dict[str, bytes], info: tarfile.TarInfo) -> int:
    if "size" not in told:
        return info.size
    if not told["size"].isdigit() or len(told["size"]) > len(str(1 << 63)):
        raise tarfile.ReadError("a size that is no number")
    return int(told["size"])


def _header(stream: Stream, size: int) -> bytes:
    if size > HEADER:
        raise tarfile.ReadError(f"a header of {size} bytes")
    data = stream.read(size)
    _skip(stream, -size % BLOCK, padded=False)
    if len(data) < size:
        raise tarfile.ReadError("unexpected end of data")
    return data


def _skip(stream: Stream, size: int, *, padded: bool = True) -> None:
    size += -size % BLOCK if padded else 0
    if stream.skip(size) < size:
        raise tarfile.ReadError("unexpected end of data")


def _pass_map(stream: Stream, block: bytes) -> None:
    """Pass over the blocks that say where the data of a sparse file belongs."""
    more, blocks = block[482], 0
    while more:
        block, blocks = stream.read(BLOCK), blocks + 1
        if len(block) < BLOCK or blocks * BLOCK > HEADER:
            raise tarfile.ReadError("a map of a sparse file that does not end")
        more = block[504]


def _fields(header: bytes) -> dict[str, bytes]:
    """The records `LENGTH KEY=VALUE\n` of a pax header, as far as they are well-formed."""
    fields: dict[str, bytes] = {}
    at = 0
    while at < len(header):
        length, space, _ = header[at : at + 8].partition(b" ")
        end = at + int(length) if space and length.isdigit() else 0
        key, equals, value = header[at + len(length) + 1 : end - 1].partition(b"=")
        if not equals or end > len(header):
            break
        fields[key.decode("utf-8", "replace")] = value
        at = end
    return fields


class _Metered:
    """A file of which no single read gives more than `most` bytes, while there is such a limit."""

    def __init__(self, raw: IO[bytes], most: int) -> None:
        self._raw = raw
        self.most: int | None = most
        self.seek, self.tell = raw.seek, raw.tell

    def seekable(self) -> bool:
        return self._raw.seekable()

    def read(self, size: int = -1) -> bytes:
        if self.most is None:
            return self._raw.read(size)
        data = self._raw.read(min(size if size >= 0 else self.most + 1, self.most + 1))
        if len(data) > self.most:
            raise zipfile.BadZipFile(f"its list of files has more than {self.most} bytes")
        return data


class ZipArchive:
    """A zip archive. Members that lie over an earlier one, or are compressed in other ways than zip's own, are refused;
    all together give no more than a file of that size may.

    Raises:
        Exception: one of `ARCHIVE_ERRORS`, where it is none.
    """

    def __init__(self, raw: IO[bytes], size: int) -> None:
        metered = _Metered(raw, DIRECTORY)
        self._archive = zipfile.ZipFile(cast("Any", metered))
        metered.most = None
        self._room = most_decoded(size)
        self.infos = [info for info in self._archive.infolist() if not info.filename.endswith("/")]
        self._overlapping = _overlapping(self.infos)
        self._by_name = {info.filename: info for info in self.infos}

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def read(self, name: str, most: int) -> Content:
        """The member of that name, the last where there are several; KeyError where there is none."""
        if name not in self:
            raise KeyError(f"There is no item named {name!r} in the archive")
        return self.content(self._by_name[name], most)

    def content(self, info: zipfile.ZipInfo, most: int) -> Content:
        """The content of a member: one that is broken costs no other, for the archive says where each begins."""
        if id(info) in self._overlapping:
            return zipfile.BadZipFile("it lies over another file of the archive")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return NotImplementedError("it is neither stored nor deflated")
        if self._room <= 0:
            return zipfile.BadZipFile("the files before it were too large together")
        try:
            with self._archive.open(info) as file:
                content = file.read((limit := min(most, self._room)) + 1)
        except ARCHIVE_ERRORS as error:
            if not is_of_the_file(error):
                raise
            return error
        self._room -= len(content)
        return content if len(content) <= limit else None


def _overlapping(infos: list[zipfile.ZipInfo]) -> set[int]:
    """The members, by `id`, that begin before an earlier one ends."""
    found: set[int] = set()
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            found.add(id(info))
        else:
            end = info.header_offset + _LOCAL_HEADER + info.compress_size
    return found
