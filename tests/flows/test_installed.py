"""The installed wheel away from the repository: the files that are no code, a run, a server with its page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import wheel
from tests.flows.golden import DOCUMENTS, golden
from tests.flows.prepared import prepare_mlflow
from tests.flows.tiny import environment, write_recipe

AFTER_THE_CORPUS = ("pretrain", "sft", "grpo", "evaluate", "quantize", "export")


@pytest.fixture(scope="module")
def site() -> Path:
    return wheel.unpacked()


def deepmill(site: Path, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line of the wheel; the checkout is nowhere on the path."""
    variables = environment(root) | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", "from flows.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, timeout=500, check=False)


def test_it_holds_every_file_that_is_no_code(site: Path) -> None:
    packages = ("flows/", "pipeline/", "model/", "infra/")
    wanted = [name for name in wheel.tracked() if name.startswith(packages) and not name.startswith("infra/deploy/")]
    assert [name for name in wanted if not (site / name).is_file()] == []
    assert not (site / "tests").exists()


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("on_prefect")
def test_it_runs_a_recipe_and_draws_its_report(site: Path, tmp_path: Path) -> None:
    """It goes on from what the checkout made: the same code in another place is no drift."""
    golden().lend(tmp_path, (*DOCUMENTS, "tokenizer"))
    prepare_mlflow(tmp_path / "store")
    write_recipe(tmp_path, **dict.fromkeys(AFTER_THE_CORPUS), index={})
    made = deepmill(site, tmp_path, "run", "tiny.yaml")
    assert made.returncode == 0, made.stderr + made.stdout
    assert "completed" in made.stdout
    shown = deepmill(site, tmp_path, "report", "--to", "report.html")
    assert shown.returncode == 0, shown.stderr
    drift = deepmill(site, tmp_path, "plan", "tiny.yaml")
    assert "Everything is cached" in drift.stdout, drift.stdout + drift.stderr
    assert "the code has changed" not in drift.stdout


def test_it_knows_the_presets(site: Path, tmp_path: Path) -> None:
    shown = deepmill(site, tmp_path, "plan", "sample")
    assert "data/sample/wiki: not gathered yet; deepmill run sample does so" in shown.stderr
    assert not (tmp_path / "data").exists(), "a plan fetches nothing"
