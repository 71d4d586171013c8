"""Tests of what is asked of the session's S3 server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest


@contextlib.contextmanager
def on_server(environment: Mapping[str, str]) -> Iterator[Any]:
    """A file system of the server that the environment reaches; meanwhile that is this process's own."""
    import s3fs

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield s3fs.S3FileSystem()
    s3fs.S3FileSystem.clear_instance_cache()


class Requests:
    """What is asked of the server meanwhile: each object with the bytes of it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        import s3fs

        self.seen: list[tuple[str, int | None]] = []
        call = s3fs.S3FileSystem._call_s3

        async def watched(system: Any, method: str, *arguments: Any, **options: Any) -> Any:
            if method == "get_object":
                wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", options.get("Range") or "")
                self.seen.append((options["Key"], int(wanted[2]) - int(wanted[1]) + 1 if wanted else None))
            return await call(system, method, *arguments, **options)

        patch.setattr(s3fs.S3FileSystem, "_call_s3", watched)
