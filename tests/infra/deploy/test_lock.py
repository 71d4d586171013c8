"""The lock with hashes names what was tested, all of it, and no registry; pip takes it and refuses another file."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
LOCK = ROOT / "requirements.lock"
LINE = re.compile(r"([a-z0-9-]+)==([^\s+]+)((?: --hash=sha256:[0-9a-f]{64})+)")


def locked() -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by name."""
    found = {}
    for line in LOCK.read_text().splitlines():
        if line.startswith("#"):
            continue
        matched = LINE.fullmatch(line)
        assert matched, line
        found[matched[1]] = (matched[2], re.findall(r"sha256:(\w+)", matched[3]))
    return found


def test_it_names_the_versions_of_the_constraints() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pinned = {}
    for line in lines:
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        pinned[canonicalize_name(requirement.name)] = specifier.version
    assert len(pinned) > 300
    assert {name: version for name, (version, _) in locked().items()} == pinned


def test_it_names_no_registry() -> None:
    text = LOCK.read_text()
    assert not re.search(r"https?:|file:|--index-url|--extra-index-url|--find-links|@ ", text)


def wheel(folder: Path, name: str, text: str) -> Path:
    """The smallest package that pip installs."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--no-index", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_what_it_writes_pip_takes_and_holds_to(tmp_path: Path) -> None:
    """The whole way: report, lock, installation; and a file that was put in place of another is refused."""
    (tmp_path / "wheels").mkdir()
    path = wheel(tmp_path / "wheels", "small_thing", "value = 1")
    (tmp_path / "constraints.txt").write_text("small-thing==1.0\n")
    where = ("--find-links", str(tmp_path / "wheels"), "--target", str(tmp_path / "into"), "--no-deps", "--quiet")
    report = tmp_path / "report.json"
    asked = pip(*where, "--dry-run", "--report", str(report), "--requirement", str(tmp_path / "constraints.txt"))
    assert asked.returncode == 0, asked.stderr
    script = str(ROOT / "infra" / "deploy" / "lock.py")
    written = subprocess.run([sys.executable, script, str(report)], capture_output=True, text=True, check=True).stdout
    assert f"small-thing==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n" in written
    lock = tmp_path / "requirements.lock"
    lock.write_text(written)
    held = ("--require-hashes", "--requirement", str(lock))
    taken = pip(*where, *held)
    assert taken.returncode == 0, taken.stderr
    wheel(tmp_path / "wheels", "small_thing", "value = 2")
    refused = pip(*where, "--upgrade", *held)
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([{"name": "a", "version": "1"}], "no SHA-256"),
        ([{"name": "a", "version": "1", "hash": "0"}, {"name": "A", "version": "2", "hash": "1"}], "several versions"),
    ],
)
def test_what_it_refuses(tmp_path: Path, items: list[dict[str, str]], says: str) -> None:
    install = [
        {
            "metadata": {"name": item["name"], "version": item["version"]},
            "download_info": {"archive_info": {"hashes": {"sha256": item["hash"]} if "hash" in item else {}}},
        }
        for item in items
    ]
    (tmp_path / "report.json").write_text(json.dumps({"install": install}))
    script = str(ROOT / "infra" / "deploy" / "lock.py")
    command = [sys.executable, script, str(tmp_path / "report.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert says in done.stderr
