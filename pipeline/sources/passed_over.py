"""Files beside the data of a folder: indexes, checksums, read-me files. Passed over by their names, and told."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from pathlib import Path

from infra import events
from infra.errors import UserError
from infra.storage import ExternalFile

__all__ = ["beside", "without_beside"]

_MACHINES = (
    *("*.md5", "*.sha1", "*.sha256", "*.sha512", "*.sfv", "*.crc", "*.asc", "*.sig", "*.par2", "*.torrent", "*.meta4"),
    *("md5sum*", "sha*sum*", "*checksums*", "*.cdx", "*.cdxj", "*.cdx.gz", "*.cdxj.gz", "*.idx", "*.index", "*.log"),
    *("robots.txt", "thumbs.db", "desktop.ini", "_success", "_metadata", "_common_metadata", "_committed_*"),
    *("_started_*", "*.paths.gz", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"),
    *("*-multistream-index*.txt*", "dumpstatus.json"),
    *("*.metadata.json", "version-hint.text", "snap-*.avro", "*-m[0-9]*.avro"),  # of Iceberg
)
_FOLDERS = frozenset({"_delta_log", "_spark_metadata", "_temporary", "_symlink_format_manifest", "__macosx"})
"""What programs keep beside their data."""
_PEOPLE = (
    *("readme", "readme.*", "license", "license.*", "licence", "licence.*", "copying", "copying.*", "changelog*"),
    *("*.cff", "*.bib", "*.py", "*.sh", "*.ipynb", "*.yaml", "*.yml", "*.toml", "requirements*.txt", "makefile"),
    *("*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp", "*.ico", "*.css"),
)
_SAID = 3
"""Names of such files that are told."""


def beside(name: str, *, code: bool = False) -> bool:
    """Whether a file of that name is no data. Of code the read-me files are a part."""
    folder, _, last = name.lower().rpartition("/")
    if not _FOLDERS.isdisjoint(folder.split("/")):
        return True
    return any(fnmatch.fnmatchcase(last, pattern) for pattern in (_MACHINES if code else (*_MACHINES, *_PEOPLE)))


def without_beside(
    where: str, paths: Sequence[str], files: Iterable[ExternalFile], *, code: bool = False
) -> list[ExternalFile]:
    """The files that are data. One that a path names itself is always so.

    Raises:
        UserError: none is.
    """
    named = {str(Path(path).expanduser().absolute()) for path in paths} | set(paths)
    kept: list[ExternalFile] = []
    passed: list[ExternalFile] = []
    for file in files:
        (passed if file.path not in named and beside(file.name, code=code) else kept).append(file)
    if passed:
        names = ", ".join(file.name for file in passed[:_SAID]) + (", ..." if len(passed) > _SAID else "")
        count = "1 file is" if len(passed) == 1 else f"{len(passed)} files are"
        if not kept:
            raise UserError(f"{where}: {', '.join(paths)}: no data beside {names}; name a file itself to have it read")
        events.note(f"{where}: {count} passed over by name ({names})")
    return kept
