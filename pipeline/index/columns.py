"""Files of numbers, row after row, read at the rows that are asked for: mapped from a local folder, or fetched from an
object store in blocks, of which the ones used last are kept."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infra.errors import UserError
from infra.ranges import RemoteFolder

__all__ = ["Blocks", "Column", "ColumnFile", "FetchedColumn", "MappedColumn"]

KEPT_BYTES = 64 << 20
"""Of fetched blocks, all columns together: the upper levels of the searches, which every query reads, and what texts
asked last had in common."""


@dataclass(frozen=True)
class ColumnFile:
    """Where a column lies, and what it holds."""

    name: str
    dtype: str
    """With the byte order."""
    shape: tuple[int, ...]
    """Rows first."""
    block_bytes: int
    """Fetched at a time."""

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape[1:], dtype=np.int64))

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.shape[0] * self.row_bytes


class Column(ABC):
    """Rows of numbers."""

    def __init__(self, file: ColumnFile) -> None:
        self.file = file

    def __len__(self) -> int:
        return self.file.shape[0]

    @abstractmethod
    def take(self, rows: np.ndarray) -> np.ndarray:
        """The values at `rows`, of any shape, each within the column.

        Raises:
            UserError: the file has gone meanwhile.
        """


class MappedColumn(Column):
    """A local file, mapped into memory."""

    def __init__(self, folder: Path, file: ColumnFile) -> None:
        super().__init__(file)
        self._values = np.memmap(folder / file.name, file.dtype, mode="r", shape=file.shape)

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self._values[rows]


class Blocks:
    """Blocks of the files of a remote folder; threads may share it."""

    def __init__(self, folder: RemoteFolder, kept_bytes: int = KEPT_BYTES) -> None:
        self._folder, self._free = folder, kept_bytes
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, file: ColumnFile, numbers: Sequence[int]) -> list[bytes]:
        """Some blocks of a file; what is not at hand is fetched at once, not one by one."""
        size = file.block_bytes
        with self._lock:
            found = {number: self._kept[file.name, number] for number in numbers if (file.name, number) in self._kept}
            for number in found:
                self._kept.move_to_end((file.name, number))
        missing = [number for number in numbers if number not in found]
        if missing:
            wanted = [(file.name, number * size, min(size, file.size - number * size)) for number in missing]
            try:
                fetched = dict(zip(missing, self._folder.ranges(wanted), strict=True))
            except FileNotFoundError:
                raise UserError(f"{self._folder.address(file.name)}: it has gone; make the index again") from None
            found |= fetched
            self._keep(file.name, fetched)
        return [found[number] for number in numbers]

    def _keep(self, name: str, fetched: dict[int, bytes]) -> None:
        with self._lock:
            for number, block in fetched.items():
                if (name, number) not in self._kept:
                    self._kept[name, number] = block
                    self._free -= len(block)
            while self._free < 0 and self._kept:
                self._free += len(self._kept.popitem(last=False)[1])


class FetchedColumn(Column):
    """A file of a remote folder."""

    def __init__(self, blocks: Blocks, file: ColumnFile) -> None:
        super().__init__(file)
        self._blocks, self._per_block = blocks, file.block_bytes // file.row_bytes
        assert self._per_block * file.row_bytes == file.block_bytes, "a row does not lie in one block"

    def take(self, rows: np.ndarray) -> np.ndarray:
        numbers, places = np.unique(rows.ravel() // self._per_block, return_inverse=True)
        # All but the file's last block are whole, and that one is the last here too.
        joined = b"".join(self._blocks.get(self.file, numbers.tolist()))
        values = np.frombuffer(joined, self.file.dtype).reshape(-1, *self.file.shape[1:])
        found: np.ndarray = values[places * self._per_block + rows.ravel() % self._per_block]
        return found.reshape(*rows.shape, *self.file.shape[1:])
