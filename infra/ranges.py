"""Parts of the files below an address of an object store: many are asked for at once, and a store that is away for a
while is waited for."""

from __future__ import annotations

from collections.abc import Sequence

from infra.retrying_filesystem import RetryingFileSystem

__all__ = ["RemoteFolder"]


class RemoteFolder:
    """A folder that fsspec knows, such as ``s3://bucket/prefix``.

    Raises:
        FileNotFoundError: by whatever reads, of a file that is not there.
        TransientError: by whatever reads, the store does not answer.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        system, root = fsspec.url_to_fs(address)
        self._system, self._root = RetryingFileSystem(system, address), root.rstrip("/")

    def address(self, name: str) -> str:
        """What to call a file in a message."""
        return str(self._system.unstrip_protocol(f"{self._root}/{name}"))

    def sizes(self, below: str) -> dict[str, int]:
        """The files below a folder of it, by their names in that one, with their bytes."""
        self._system.invalidate_cache()
        found = self._system.find(f"{self._root}/{below}", detail=True)
        return {key.rsplit(f"/{below}/", 1)[1]: int(facts["size"]) for key, facts in found.items()}

    def read(self, name: str) -> bytes:
        """A whole file."""
        return bytes(self._system.cat_file(f"{self._root}/{name}"))

    def ranges(self, wanted: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """The bytes of each ``(name, begin, size)``."""
        names, begins, sizes = zip(*wanted, strict=True)
        ends = [begin + size for begin, size in zip(begins, sizes, strict=True)]
        paths = [f"{self._root}/{name}" for name in names]
        return list(self._system.cat_ranges(paths, list(begins), ends, on_error="raise"))
