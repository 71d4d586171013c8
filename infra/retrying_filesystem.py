"""An object store that is slow, overloaded or away for a while is waited for; one that stays away is named.

`RetryingFileSystem` stands before an fsspec file system and repeats what failed for a reason that passes, with growing
pauses. What cannot be mended by waiting (no such object, no rights, no such bucket) is raised at once.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from typing import Any

from infra.errors import TransientError, first_line

__all__ = ["RetryingFileSystem", "passes"]

PATIENCE_SECONDS = 120.0
"""How long one request is repeated: a store that is restarted is back by then."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 8.0
PASSING = {errno.EIO, errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE}
LASTING = (FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError)
NAMES = {
    "EndpointConnectionError",
    "HTTPClientError",
    "ConnectionClosedError",
    "ReadTimeoutError",
    "IncompleteReadError",
}
"""Errors of botocore that are no OSError."""
REPEATED = {
    "cat_file",
    "cat_ranges",
    "cp_file",
    "exists",
    "find",
    "get_file",
    "glob",
    "info",
    "isdir",
    "ls",
    "pipe_file",
    "put_file",
    "rm",
    "rm_file",
}


def passes(error: BaseException) -> bool:
    """Whether waiting may mend it."""
    if isinstance(error, LASTING):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in PASSING:
        return True
    return any(kind.__name__ in NAMES for kind in type(error).__mro__) or _is_server_error(error)


def _is_server_error(error: BaseException) -> bool:
    """A 5xx or 429 answer, as botocore and aiohttp tell it."""
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    status = metadata.get("HTTPStatusCode") or getattr(error, "status", 0) or 0
    return isinstance(status, int) and (status >= 500 or status == 429)


class RetryingFileSystem:
    """The file system behind it, with repeated requests; everything else is passed on."""

    def __init__(self, filesystem: Any, address: str, seconds: float = PATIENCE_SECONDS) -> None:
        self._filesystem, self._address, self._seconds = filesystem, address, seconds

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._filesystem, name)
        if name not in REPEATED:
            return found

        def repeated(*arguments: Any, **options: Any) -> Any:
            return self._repeat(found, *arguments, **options)

        return repeated

    def _repeat(self, request: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Raises:
        TransientError: it did not answer in time, however often it was asked.
        """
        deadline = time.monotonic() + self._seconds
        pause = FIRST_PAUSE
        while True:
            try:
                return request(*arguments, **options)
            except Exception as error:
                if not passes(error):
                    raise
                if time.monotonic() + pause > deadline:
                    raise TransientError(
                        f"{self._address}: the store has not answered for {self._seconds:.0f} s ({first_line(error)}); "
                        "run the same command when it does: what is finished is kept"
                    ) from error
            time.sleep(pause * random.uniform(0.7, 1.3))  # many waiting at once should not come back at once
            pause = min(2 * pause, LONGEST_PAUSE)
