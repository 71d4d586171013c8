"""Writes `requirements.lock`, the versions of `constraints.txt` with the hashes of their files, from reports of pip.

``make lock``, or by hand, once for every index whose files are to be taken (their hashes are merged)::

    pip install --dry-run --ignore-installed --no-deps --quiet --report a.json --requirement constraints.txt
    python infra/deploy/lock.py a.json [b.json ...] > requirements.lock

The lock names no index: pip asks the one that is configured, and takes nothing with another hash.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = """\
# Written by `make lock` from constraints.txt: Linux on x86-64, Python 3.11. SECURITY.md tells how to install with it.
"""


def locked(reports: list[dict[str, Any]]) -> str:
    """The lines of the lock, sorted by name.

    Raises:
        ValueError: a report names a file without a SHA-256, or two reports another version.
    """
    hashes: dict[tuple[str, str], set[str]] = {}
    for report in reports:
        for item in report["install"]:
            name, version = _name(item["metadata"]["name"]), item["metadata"]["version"].partition("+")[0]
            digest = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
            if not digest:
                raise ValueError(f"{name} {version}: the report has no SHA-256 of its file")
            hashes.setdefault((name, version), set()).add(digest)
    names = [name for name, _ in hashes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))}: the reports have several versions")
    lines = [
        f"{name}=={version} " + " ".join(f"--hash=sha256:{digest}" for digest in sorted(digests))
        for (name, version), digests in sorted(hashes.items())
    ]
    return HEAD + "\n".join(lines) + "\n"


def _name(name: str) -> str:
    """A name as indexes compare them (PEP 503)."""
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    sys.stdout.write(locked([json.loads(Path(path).read_bytes()) for path in sys.argv[1:]]))
