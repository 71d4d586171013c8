"""Newer Pythons: nothing in the code or in the locked packages stands in their way.

Declared is what was tried (3.11); this tells what would stop 3.12 and 3.13 before somebody tries.
"""

from __future__ import annotations

import ast
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
NEXT = ("3.12", "3.13")
REMOVED = frozenset(
    {
        *("asynchat", "asyncore", "distutils", "imp", "smtpd"),  # 3.12
        *("aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3", "mailcap", "msilib", "nis"),  # 3.13
        *("nntplib", "ossaudiodev", "pipes", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib"),
    }
)
"""Modules of the standard library that are gone."""


def _locked() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_the_locked_packages_admit_the_next_pythons() -> None:
    looked_at, refusing = 0, []
    for requirement in _locked():
        try:
            wanted = distribution(requirement.name).metadata.get("Requires-Python")
        except PackageNotFoundError:
            continue  # locked for an extra that is not installed here
        looked_at += 1
        refusing += [f"{requirement} wants {wanted}" for version in NEXT if version not in SpecifierSet(wanted or "")]
    assert looked_at > 100
    assert not refusing


def test_no_module_that_the_next_pythons_lack() -> None:
    found = []
    for path in (path for layer in ("infra", "pipeline", "model", "flows") for path in (ROOT / layer).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name} imports {name}" for name in names if name.split(".")[0] in REMOVED]
    assert not found
