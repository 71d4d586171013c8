"""Names of the packages that an extra of this project needs, with all that those need: ``closure.py EXTRA...``.

Read from what is installed, so the extras must be. `make lock` writes `run.txt` and `test.txt` with it, which spare the
set-up the search for versions that go together.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, requires

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["closure"]

PROJECT = "deepmill"
PYTHONS = ("3.11.0", platform.python_version())
"""The lists serve every Python that the project runs on: Debian 12 has 3.11.2, for which packages may need more."""


def closure(extras: set[str]) -> set[str]:
    """Every package that the project needs with these extras on some Python 3.11, by the name that indexes compare.

    Raises:
        PackageNotFoundError: one of them is not installed.
    """
    done: dict[str, set[str]] = {}
    waiting = [(PROJECT, extras)]
    while waiting:
        name, wanted = waiting.pop()
        if name in done and wanted <= done[name]:
            continue
        done.setdefault(name, set()).update(wanted)
        for line in requires(name) or ():
            requirement = Requirement(line)
            if _applies(requirement.marker, {"", *done[name]}):
                waiting.append((canonicalize_name(requirement.name), set(requirement.extras)))
    return done.keys() - {PROJECT}


def _applies(marker: Marker | None, extras: set[str]) -> bool:
    return marker is None or any(
        marker.evaluate({"extra": extra, "python_full_version": python}) for extra in extras for python in PYTHONS
    )


if __name__ == "__main__":
    try:
        print("\n".join(sorted(closure(set(sys.argv[1:])))))
    except PackageNotFoundError as missing:
        sys.exit(f"error {missing.name} is not installed: make test sets up all that the lists name")
