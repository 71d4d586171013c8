"""What set-up leaves out of an environment: packages' own tests, and nothing that anybody else looks for."""

from __future__ import annotations

import sysconfig
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from infra.deploy import warm
from infra.deploy.trim import TESTED, trim

STAYS = (
    *("torch/__init__.py", "torch/testing/__init__.py", "torch/contest/a.py", "torch/bin/torch_shm_manager"),
    *("torch/bin/protoc", "torch/latest.py", "torch-2.0.dist-info/licenses/third_party/json/test/LICENSE"),
    *("mpmath/__init__.py", "mpmath/tests/runtests.py"),
)
GOES = ("torch/test/api", "torch/bin/test_api", "torch/fx/passes/tests/test_a.py", "torch/fx/passes/tests/data/b.csv")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two packages, one of which imports its tests; bytecode of a test that no RECORD lists."""
    for name in (*STAYS, *GOES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("12345678")
    for package in ("torch-2.0", "mpmath-1.3"):
        info = tmp_path / f"{package}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Name: {package.split('-')[0]}\nVersion: 1\n")
        named = [name for name in (*STAYS, *GOES) if name.startswith(package.split("-")[0])]
        rows = [f"{name},sha256=x,8" for name in named] + [f"../../bin/{package}-tests/run,,", f"{info.name}/RECORD,,"]
        (info / "RECORD").write_text("".join(f"{row}\n" for row in rows))
    left = tmp_path / "torch/fx/passes/tests/__pycache__"
    left.mkdir()
    (left / "test_a.cpython-311.pyc").write_bytes(b"x")
    return tmp_path


def test_what_goes_and_what_stays(site: Path) -> None:
    assert trim(site) == (len(GOES), 8 * len(GOES))
    assert [name for name in STAYS if not (site / name).exists()] == []
    assert not list(site.rglob("test_*"))
    assert not (site / "torch/test").exists()
    assert not (site / "torch/fx").exists()


def test_the_record_lists_what_is_there(site: Path) -> None:
    trim(site)
    distribution = Distribution.at(site / "torch-2.0.dist-info")
    listed = {str(file) for file in distribution.files or ()}
    assert {name for name in STAYS if name.startswith("torch")} < listed
    assert not listed & set(GOES)
    assert "../../bin/torch-2.0-tests/run" in listed


def test_one_that_was_killed_goes_on(site: Path) -> None:
    (site / GOES[0]).unlink()
    assert trim(site) == (len(GOES) - 1, 8 * (len(GOES) - 1))
    assert not [name for name in GOES if name in (site / "torch-2.0.dist-info/RECORD").read_text()]
    assert trim(site) == (0, 0)


def test_the_packages_are_here() -> None:
    """By the names of their folders: one that is renamed would be trimmed no more."""
    site = Path(sysconfig.get_path("purelib"))
    assert [name for name in TESTED if not list(site.glob(f"{name}-*.dist-info/RECORD"))] == []


def test_what_is_imported_in_advance_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Path(sysconfig.get_path("purelib"))
    for name in (name for part in warm.PARTS.values() for name in part):
        folder = Path(__file__).parents[3] if name in warm.OURS else site
        path = folder / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
    monkeypatch.setattr(warm, "_import", lambda name: None)
    for part in warm.PARTS:
        warm.main(part)
