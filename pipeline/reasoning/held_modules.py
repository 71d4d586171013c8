"""Modules held in memory, for a process that may open no file to import.

Libraries of mathematics import much of themselves only when it is first called for. `HeldModules` reads the byte code
of whole packages (their source, where none is cached) once; a locked process (`lockdown`) then imports from that.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType

__all__ = ["HeldModules"]

_HEADER = 16
"""Bytes of a .pyc file before the code: magic number, flags, time and size of the source (PEP 552)."""
_UNUSED = frozenset({"tests", "benchmarks", "testing", "__pycache__", "__main__.py"})


@dataclass(frozen=True)
class _Held:
    path: Path
    code: bytes
    """Empty where the source is held."""
    source: bytes

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


class HeldModules(MetaPathFinder, InspectLoader):
    """Finder and loader of the modules of some packages."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._held: dict[str, _Held] = {}
        for package in packages:
            spec = importlib.util.find_spec(package)
            for place in (spec.submodule_search_locations if spec else None) or ():
                self._held |= _modules(package, Path(place))

    def install(self) -> None:
        """Be asked first from now on."""
        sys.meta_path.insert(0, self)

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """How to load `fullname`, if it is held."""
        held = self._held.get(fullname)
        if held is None:
            return None
        folders = [str(held.path.parent)] if held.is_package else None
        return importlib.util.spec_from_file_location(
            fullname, held.path, loader=self, submodule_search_locations=folders
        )

    def is_package(self, fullname: str) -> bool:
        """Whether the module has modules."""
        return self._held[fullname].is_package

    def get_source(self, fullname: str) -> str:
        """The source where no byte code is held, else nothing."""
        return self._held[fullname].source.decode()

    def get_code(self, fullname: str) -> CodeType:
        """What executing the module runs."""
        held = self._held[fullname]
        if held.code:
            return marshal.loads(held.code)
        found: CodeType = compile(held.source, str(held.path), "exec", dont_inherit=True)
        return found


def _modules(package: str, folder: Path) -> Iterator[tuple[str, _Held]]:
    """Names and contents of the modules below `folder`."""
    for path in sorted(folder.iterdir()):
        if path.name in _UNUSED:
            continue
        if path.is_dir():
            yield from _modules(f"{package}.{path.name}", path)
        elif path.suffix == ".py":
            code = _cached(path)
            held = _Held(path, code, b"" if code else path.read_bytes())
            yield package if held.is_package else f"{package}.{path.stem}", held


def _cached(path: Path) -> bytes:
    """The byte code of the source file `path`, empty where there is none that belongs to it."""
    try:
        data = Path(importlib.util.cache_from_source(str(path))).read_bytes()
    except OSError:
        return b""
    stat = path.stat()
    stamp = b"".join(number.to_bytes(4, "little") for number in (0, int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size))
    return data[_HEADER:] if data[:_HEADER] == importlib.util.MAGIC_NUMBER + stamp else b""
