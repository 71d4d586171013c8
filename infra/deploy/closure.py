"""Names of the packages that an extra of this project needs, with all that those need: ``closure.py EXTRA...``.

Read from what is installed, so the extras must be. `make lock` writes `run.txt` and `test.txt` with it, which spare the
set-up the search for versions that go together.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["closure"]

PROJECT = "deepmill"


def closure(extras: set[str]) -> set[str]:
    """Every package that the project needs with these extras, by the name that indexes compare.

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
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *done[name])):
                waiting.append((canonicalize_name(requirement.name), set(requirement.extras)))
    return done.keys() - {PROJECT}


if __name__ == "__main__":
    try:
        print("\n".join(sorted(closure(set(sys.argv[1:])))))
    except PackageNotFoundError as missing:
        sys.exit(f"error {missing.name} is not installed: make test sets up all that the lists name")
